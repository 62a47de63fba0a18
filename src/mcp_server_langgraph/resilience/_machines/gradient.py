"""Gradient2: the limit follows the ratio of the usual round trip to the present one.

As long as calls take no longer than ``tolerance`` times the usual, the limit grows by ``queue``; beyond that it
shrinks in proportion, to half at most, so that one outlier does no harm. The usual is an exponential mean over
``long_window`` windows, which comes down faster where it stands at more than twice the present. Where less than half
of the limit is in use it tells nothing, and stays.

Source: Netflix concurrency-limits, ``Gradient2Limit`` and ``ExpAvgMeasurement``, with their defaults. One thing is
added: a window with drops counts as the lowest gradient. There the drops tell nothing, so a dependency that answers
nobody gives no round trip and keeps its limit; and a mean that learns from an overload for long enough takes the
overload for the usual, which only the callers' time limits then end.
"""

from __future__ import annotations

import math
from typing import Final

from .samples import Observed

LOWEST: Final = 0.5
# Windows of which the mean is a plain one at first, and by how much it comes down when it is far too long.
WARM_UP: Final = 10
DECAY: Final = 0.95
FAR_TOO_LONG: Final = 2.0


class LongMean:
    """An exponential mean, a plain one over its first `WARM_UP` values."""

    __slots__ = ("_factor", "_seen", "_sum", "value")

    def __init__(self, windows: int) -> None:
        self.value = 0.0
        self._factor = 2.0 / (windows + 1)
        self._seen = 0
        self._sum = 0.0

    def add(self, value: float) -> float:
        """The mean with that value in it."""
        if self._seen < WARM_UP:
            self._seen += 1
            self._sum += value
            self.value = self._sum / self._seen
        else:
            self.value += (value - self.value) * self._factor
        return self.value


class Gradient2:
    """A limit between ``least`` and ``most``.

    ``tolerance``: how much longer than usual a round trip may be (>= 1). ``smoothing``: how much of the way to the new
    limit is gone at once (0 to 1). ``queue``: how many may wait in the dependency (None: the limit's square root).
    """

    def __init__(
        self,
        initial: float = 20,
        least: int = 20,
        most: int = 200,
        *,
        tolerance: float = 1.5,
        smoothing: float = 0.2,
        queue: float | None = 4,
        long_window: int = 600,
    ) -> None:
        self.limit = float(initial)
        self.tolerance = tolerance
        self.smoothing = smoothing
        self.queue = queue
        self.usual = LongMean(long_window)
        self.bound(least, most)

    def bound(self, least: int, most: int) -> None:
        """Keep the limit between these from now on."""
        self.least = least
        self.most = most
        self.limit = max(float(least), min(float(most), self.limit))

    def update(self, observed: Observed) -> None:
        """Move the limit after a window."""
        gradient = LOWEST
        if observed.round_trip is not None:
            gradient = self._gradient(observed.round_trip)
        if observed.dropped:
            gradient = LOWEST
        elif observed.in_flight < self.limit / 2:
            return
        queue = math.sqrt(self.limit) if self.queue is None else self.queue
        wanted = self.limit * gradient + (0 if observed.dropped else queue)
        moved = self.limit * (1 - self.smoothing) + wanted * self.smoothing
        self.limit = max(float(self.least), min(float(self.most), moved))

    def _gradient(self, present: float) -> float:
        usual = self.usual.add(present)
        if usual / present > FAR_TOO_LONG:
            self.usual.value *= DECAY
        return max(LOWEST, min(1.0, self.tolerance * usual / present))
