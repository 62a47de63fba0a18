"""One shell for the commands of a page, as its reader has one."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from tests.docs.pages import ROOT
from tests.support.ports import free_port

__all__ = ["Session"]

_DONE: Final = "--- this command is done, with "
# How a shell tells that a background process was killed.
_OF_BASH: Final = re.compile(
    r"bash: line \d+: +\d+ (?:Killed|Terminated)|\[\d+\][+-]? +(?:Killed|Done|Terminated)"
)
_PORT: Final = re.compile(r"\b(8000|6399)\b")
STARTED_WITHIN: Final = 200.0
SILENT_FOR: Final = 200.0


class Session:
    """A bash in a folder that has the project's environment and scripts in it.

    The ports that the documentation uses stand for free ones here, so that pages can be tested beside each other.
    ``scripts/serve`` is replaced by what it executes: the environment is the one of the tests, and is there already.
    """

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self._folder = folder
        self._ports = {"8000": str(free_port())}
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env={**environ, "PORT": self._ports["8000"], "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Without job control all that the shell has started is in its process group.
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def save(self, name: str, text: str, *, append: bool) -> None:
        """What the reader saves as a file."""
        with (self._folder / name).open("a" if append else "w", encoding="utf-8") as file:
            file.write(self._with_free_ports(text))

    def run(self, line: str) -> str:
        """What the command prints; a background one is waited for until it listens."""
        line = self._with_free_ports(line).replace("scripts/serve", ".venv/bin/mcp-server-langgraph serve")
        self._say(f"{line}\necho; echo '{_DONE}'$?")
        printed = self._until_done()
        if "mcp-server-langgraph serve" in line:
            self._wait_for(f"http://127.0.0.1:{self._ports['8000']}/health/startup")
        for shown, real in self._ports.items():
            printed = printed.replace(real, shown)
        return printed

    def _with_free_ports(self, text: str) -> str:
        return _PORT.sub(lambda found: self._ports.setdefault(found[0], str(free_port())), text)

    def _say(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{text}\n".encode())
        self._bash.stdin.flush()

    def _until_done(self) -> str:
        lines: list[str] = []
        for line in self._lines():
            if line.startswith(_DONE):
                printed = "".join(lines).removesuffix("\n")
                return printed if not printed or printed.endswith("\n") else f"{printed}\n"
            if not _OF_BASH.match(line):
                lines.append(line)
        raise RuntimeError(f"the shell is gone; it said: {''.join(lines)}")

    def _lines(self) -> Iterator[str]:
        assert self._bash.stdout is not None
        pending, descriptor = b"", self._bash.stdout.fileno()
        while select.select([descriptor], [], [], SILENT_FOR)[0]:
            data = os.read(descriptor, 65536)
            if not data:
                return
            *whole, pending = (pending + data).split(b"\n")
            yield from (f"{line.decode()}\n" for line in whole)
        raise TimeoutError(f"the command said nothing for {SILENT_FOR:g} s: {pending.decode()}")

    @staticmethod
    def _wait_for(url: str) -> None:
        give_up = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < give_up:
            try:
                with urlopen(url, timeout=30):
                    return
            except (OSError, URLError):
                time.sleep(0.1)
        raise TimeoutError(f"nothing answers at {url}")
