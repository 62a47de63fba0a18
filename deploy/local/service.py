"""One program as a process: started on a free port, waited for, and ended by its pid."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mcp_server_langgraph.server.companions import launch

__all__ = ["HOST", "DidNotStart", "Service", "accepts", "answers_http", "free_port"]

HOST: Final = "127.0.0.1"
STOP_SECONDS: Final = 30.0
_PORTS: Final = range(30_000, 32_000)
"""Below those of clients: a Keycloak takes half a minute until it listens."""


class DidNotStart(Exception):
    """A program ended, or did not answer in time."""


@dataclass
class Service:
    """``where`` is what it is to be asked at; ``ready`` says whether it answers. Its output goes to a log."""

    name: str
    where: str
    command: Sequence[str]
    ready: Callable[[], bool]
    folder: Path
    environment: Mapping[str, str] | None = None
    patience: float = 120.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Of the process; None where it was never started."""
        return None if self.process is None else self.process.pid

    def start(self) -> None:
        """Start it; it ends with us, however we end, and not by a Ctrl-C that is meant for us."""
        program, *arguments = self.command
        launched = [sys.executable, "-I", launch.__file__, str(os.getpid()), program, *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                launched,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Raises DidNotStart."""
        give_up = time.monotonic() + self.patience
        while not self.ready():
            if self.ended():
                raise DidNotStart(f"{self.name} ended; {self.log} says why")
            if time.monotonic() > give_up:
                raise DidNotStart(f"{self.name} gave no answer in {self.patience:.0f} s; see {self.log}")
            time.sleep(0.1)

    def ended(self) -> bool:
        """Whether its process has ended, or was never started."""
        return self.process is None or self.process.poll() is not None

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """A port that nobody listens on now, and that no client is given by chance before its service has it."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise DidNotStart("there is no free port")


def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def answers_http(url: str) -> bool:
    """Whether a GET of the URL succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
