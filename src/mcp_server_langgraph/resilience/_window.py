"""Windows over the calls that ended: how many, how many failed, how many were slow. Pure; every update is O(1).

`CountWindow` keeps the last so many calls, `TimeWindow` those of the last so many seconds. The latter moves in steps of
a tenth, as Polly's and Hystrix' do: between nine tenths of its length and all of it is in view. A step that nobody
called in costs nothing until the next call.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CountWindow", "TimeWindow", "Window"]

BUCKETS: Final = 10

_FAILED: Final = 1
_SLOW: Final = 2
_NONE: Final = 4  # a place that no call has taken yet


class Window:
    """What both have in common: the totals now."""

    __slots__ = ("calls", "failures", "slow")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.slow = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """A call ended."""
        raise NotImplementedError

    def advance(self, now: float) -> None:
        """Forget what is too old by now."""


class CountWindow(Window):
    """The last ``size`` calls."""

    __slots__ = ("_at", "_ring", "size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._ring = bytearray([_NONE]) * size
        self._at = 0

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """A call ended; it takes the place of the oldest."""
        oldest = self._ring[self._at]
        self.calls += oldest == _NONE
        self.failures += failed - (oldest & _FAILED)
        self.slow += slow - ((oldest & _SLOW) >> 1)
        self._ring[self._at] = failed + 2 * slow
        self._at = (self._at + 1) % self.size


class TimeWindow(Window):
    """The calls that ended in the last ``seconds``."""

    __slots__ = ("_buckets", "_step", "_width", "seconds")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self._width = seconds / BUCKETS
        self._step: int | None = None  # the number of the step that the newest bucket is of
        self._buckets = [[0, 0, 0] for _ in range(BUCKETS)]

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """A call ended. One that comes late (another thread was faster) is counted in the newest step."""
        self.advance(now)
        assert self._step is not None
        bucket = self._buckets[self._step % BUCKETS]
        bucket[0] += 1
        bucket[1] += failed
        bucket[2] += slow
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def advance(self, now: float) -> None:
        """Forget the steps that have left the window."""
        step = int(now // self._width)
        newest = self._step
        if newest is not None and step <= newest:
            return
        self._step = step
        if newest is None:
            return
        for passed in range(max(newest + 1, step - BUCKETS + 1), step + 1):
            bucket = self._buckets[passed % BUCKETS]
            self.calls -= bucket[0]
            self.failures -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)
