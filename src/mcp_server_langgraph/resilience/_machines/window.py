"""Windows over the calls that ended: how many, how many failed, how many were slow. Pure; every update is O(1).

`CountWindow` keeps the last so many calls, `TimeWindow` those of the last so many seconds. The latter moves in steps of
a tenth, as Polly's and Hystrix' do: between nine tenths of its length and all of it is in view. A step that nobody
called in costs nothing until the next call.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

__all__ = ["CountWindow", "Seen", "TimeWindow", "Window"]

BUCKETS: Final = 10

# A byte for each call: 1 if it failed, and 2 if it was slow.
_FAILED: Final = 1
_NONE: Final = 4  # a place that no call has taken yet


class Seen(NamedTuple):
    """What is in view at one moment."""

    calls: int
    failures: int
    slow: int


class Window:
    """What both have in common: the totals now."""

    __slots__ = ("calls", "failures", "slow")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.slow = 0

    def record(self, now: float, failed: bool, slow: bool) -> None:
        """A call ended."""
        raise NotImplementedError

    def advance(self, now: float) -> None:
        """Forget what is too old by now."""

    def seen(self, now: float) -> Seen:
        """What is in view now. Changes nothing: whoever looks may have another clock than the calls."""
        return Seen(self.calls, self.failures, self.slow)


class CountWindow(Window):
    """The last ``size`` calls."""

    __slots__ = ("_at", "_ring", "size")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self._ring = bytearray([_NONE]) * size
        self._at = 0

    def record(self, now: float, failed: bool, slow: bool) -> None:
        """A call ended; it takes the place of the oldest."""
        ring, at = self._ring, self._at
        oldest = ring[at]
        if oldest == _NONE:
            self.calls += 1
        elif oldest:
            self.failures -= oldest & _FAILED
            self.slow -= oldest >> 1
        ring[at] = failed + 2 * slow
        self.failures += failed
        self.slow += slow
        self._at = at + 1 if at + 1 < self.size else 0


class TimeWindow(Window):
    """The calls that ended in the last ``seconds``."""

    __slots__ = ("_buckets", "_newest", "_step", "_width")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._width = seconds / BUCKETS
        self._step = -math.inf  # the number of the step that the newest bucket is of
        self._buckets = [[0, 0, 0] for _ in range(BUCKETS)]
        self._newest = self._buckets[0]

    def record(self, now: float, failed: bool, slow: bool) -> None:
        """A call ended. One that comes late (another thread was faster) is counted in the newest step."""
        step = now // self._width
        if step > self._step:
            self.advance(now)
        bucket = self._newest
        bucket[0] += 1
        bucket[1] += failed
        bucket[2] += slow
        self.calls += 1
        self.failures += failed
        self.slow += slow

    def advance(self, now: float) -> None:
        """Forget the steps that have left the window."""
        step, newest = now // self._width, self._step
        if step <= newest:
            return
        self._step = step
        for passed in range(int(max(newest + 1, step - BUCKETS + 1)), int(step) + 1):
            self._newest = bucket = self._buckets[passed % BUCKETS]
            self.calls -= bucket[0]
            self.failures -= bucket[1]
            self.slow -= bucket[2]
            bucket[:] = (0, 0, 0)

    def seen(self, now: float) -> Seen:
        """What is in view now."""
        last, first = self._step, now // self._width - BUCKETS + 1
        if first <= last - BUCKETS + 1:
            return super().seen(now)
        left = (
            [self._buckets[step % BUCKETS] for step in range(int(first), int(last) + 1)]
            if first <= last
            else []
        )
        return Seen(*(sum(bucket[kind] for bucket in left) for kind in range(3)))
