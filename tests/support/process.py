"""A real component as a process of its own, to be killed, hung and restarted by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.support.components import require
from tests.support.ports import free_port
from tests.support.uses import note_start

__all__ = ["Process"]

_OURS = "python"
"""In place of a component: a stand-in of the tests' own, run by this Python."""


class Process:
    """A program on a free port, in a folder of its own.

    Port and folder stay the same over restarts. The methods block: `start` for at most `patience` seconds.
    """

    patience = 120.0

    def __init__(self, folder: Path, component: str) -> None:
        self.program = sys.executable if component == _OURS else require(component)
        self.component = component
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """What is executed; files that it reads may be written here."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it does what it is there for."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> Self:
        """Start the program and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        began = time.monotonic()
        while not self.answers():
            if time.monotonic() > began + self.patience or self._running().poll() is not None:
                raise TimeoutError(f"no answer; see {self.folder / 'server.log'}")
            time.sleep(0.02)
        if self.component != _OURS:
            note_start(self.component, time.monotonic() - began)
        return self

    def kill(self) -> None:
        """End the program at once, as `kill -9` does."""
        process = self._running()
        process.kill()
        process.wait(60)
        self._process = None

    def terminate(self) -> None:
        """Ask the program to end, and wait until it has."""
        process = self._running()
        process.terminate()
        process.wait(self.patience)
        self._process = None

    def pause(self) -> None:
        """Hang: connections are still accepted by the kernel, and nothing is answered."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Go on after a `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the program, whatever state it is in."""
        if self._process is not None:
            self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process
