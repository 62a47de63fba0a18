"""A loop whose clock stands still while this process does: the machine, not what is tested, was slow then.

The services' timeouts are a few tenths of a second. On the loop's usual clock a process that the system leaves aside
for as long finds them all expired when it goes on, and answers that have long arrived are given up.
"""

from __future__ import annotations

import asyncio
import threading
from time import monotonic  # itself, as tests put other clocks into the module
from types import TracebackType
from typing import Self

__all__ = ["OwnTime", "OwnTimeLoop"]

_BEAT = 0.005
_LONGEST = 0.02
"""Seconds: a thread that wants to run every 5 ms runs every 5 to 6 on a machine that has time for it."""


class OwnTime:
    """Seconds in which this process ran, as a thread notices that does nothing else; a context manager.

    Never faster than ``time.monotonic``. What blocks one thread, as ``time.sleep`` does, is no standstill.
    """

    def __init__(self) -> None:
        now = monotonic()
        self._beat = (now, now)  # when, and what this clock said then
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="own-time", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self) -> float:
        now = monotonic()
        at, said = self._beat
        return said + min(max(now - at, 0.0), _LONGEST)

    def _run(self) -> None:
        while not self._ended.wait(_BEAT):
            now = monotonic()
            at, said = self._beat
            self._beat = (now, said + min(now - at, _LONGEST))


class OwnTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, by that clock."""

    def __init__(self, clock: OwnTime) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock()
