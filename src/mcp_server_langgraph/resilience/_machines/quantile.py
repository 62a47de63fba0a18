"""A quantile of recent values, in bounded memory, at the price of a bisection and an addition for each value.

Values fall into buckets whose bounds grow by a constant factor (the idea of DDSketch: Masson, Rim, Lee, VLDB 2019). The
answer is a bucket's upper bound: never below the true value, and above it by at most `ERROR` of it. (The middle would
be closer, but a timer set to it would go off just before most of the values in the bucket.) Answers come from a
small, fixed set, which suits timers, too: those of one length share a queue (`timers`). The buckets are looked through
only after each 32nd part of the values is new, so the answer is the quantile of now or of a moment ago, when at least
31/32 of the values were there.

Recent means: of this window and the one before. Windows stand on a grid of the clock; when one ends, the values of
the one before it are forgotten at once. A sliding or decaying window would have to touch every bucket or keep every
value; a pointer that follows the quantile exactly was tried and costs three times as much for each value.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from operator import add
from typing import Final

__all__ = ["ERROR", "LEAST", "MOST", "Quantile"]

# Relative to the true value. Four per cent of a latency is less than its noise.
ERROR: Final = 0.04
# Seconds. What is shorter counts as this long, what is longer as that. What mostly answers within a millisecond is not
# made faster by asking twice.
LEAST: Final = 0.001
MOST: Final = 3600.0

# Of the values, how many must be new before the buckets are looked through again.
_NEW_PART: Final = 32

_SIZE: Final = 1 + math.ceil(math.log(MOST / LEAST) / math.log1p(ERROR))
# Upper bounds of the buckets, inclusive; the last takes whatever is longer.
_BOUNDS: Final = (*(LEAST * (1 + ERROR) ** index for index in range(_SIZE - 1)), MOST)
_INNER: Final = _BOUNDS[:-1]


class Quantile:
    """The least value that at least ``share`` (above 0, at most 1) of the recent values do not exceed.

    ``window``: seconds, above 0. ``known`` is the quantile and ``total`` the number of recent values, both as of the
    last look; ``known`` is None where there are fewer than ``enough`` (at least 1). ``ends`` is when the running window
    ends.
    """

    __slots__ = (
        *("_begins", "_epoch", "_newest", "_older", "_unseen"),
        *("ends", "enough", "known", "share", "total", "window"),
    )

    def __init__(self, share: float, window: float, enough: int = 1) -> None:
        self.share = share
        self.window = window
        self.enough = enough
        self.known: float | None = None
        self.total = 0
        self._epoch: int = 0
        self._begins = math.inf
        self.ends = -math.inf
        self._older = [0] * _SIZE
        self._newest = [0] * _SIZE
        self._unseen = 1  # how many more values until the next look

    def add(self, value: float, now: float) -> None:
        """Count one value. ``now`` may be late by a window at most, as threads may be."""
        if not self._begins <= now < self.ends:
            self.turn(now)
        self._newest[bisect_left(_INNER, value)] += 1
        self._unseen -= 1
        if self._unseen <= 0:
            self._look()

    def of(self, share: float) -> float | None:
        """The quantile of another share, as exact as can be; None where there is no value."""
        self.total, value = self._find(share)
        return value

    def point_at(self, share: float) -> None:
        """Tell another share's quantile from now on."""
        self.share = share
        self._look()

    def turn(self, now: float) -> None:
        """Begin the window of ``now``, which may also lie before (the clock is another one then)."""
        epoch = math.floor(now / self.window)
        self._older = self._newest if epoch == self._epoch + 1 else [0] * _SIZE
        self._newest = [0] * _SIZE
        self._epoch = epoch
        self._begins = (epoch - 1) * self.window
        self.ends = (epoch + 1) * self.window
        self._look()

    def _look(self) -> None:
        self.total, known = self._find(self.share)
        self.known = known if self.total >= self.enough else None
        self._unseen = max(1, self.total // _NEW_PART)

    def _find(self, share: float) -> tuple[int, float | None]:
        sums = list(accumulate(map(add, self._older, self._newest)))
        total = sums[-1]
        return total, _BOUNDS[bisect_left(sums, share * total)] if total else None
