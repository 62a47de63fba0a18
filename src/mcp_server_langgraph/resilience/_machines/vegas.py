"""Vegas: the limit that leaves a few calls waiting in the dependency.

The shortest round trip seen is taken for that of an empty dependency; from it and the present one follows how many of
the calls in flight wait there: ``limit * (1 - shortest / present)``. Few (``log10``): the limit grows by ``beta``.
Fewer than ``alpha``: it grows a little. More than ``beta``: it shrinks a little. As the dependency may become slower
for good, the shortest is measured anew from time to time, with jitter, so that many clients do not do it together.

Source: L. Brakmo, L. Peterson, "TCP Vegas", 1995; Netflix concurrency-limits, ``VegasLimit``, with its defaults.
"""

from __future__ import annotations

import math
from typing import Final

from .samples import Observed

ALPHA: Final = 3
BETA: Final = 6
# The shortest round trip is measured anew every 30 windows for each call of the limit.
PROBE_EVERY: Final = 30


class Vegas:
    """A limit between ``least`` and ``most``. ``chance`` in [0, 1) places the first probe."""

    def __init__(self, initial: float = 20, least: int = 1, most: int = 1000, *, chance: float = 0.0) -> None:
        self.limit = float(initial)
        self.shortest: float | None = None
        self.windows = 0
        self.jitter = _jitter(chance)
        self.bound(least, most)

    def bound(self, least: int, most: int) -> None:
        """Keep the limit between these from now on."""
        self.least = least
        self.most = most
        self.limit = max(float(least), min(float(most), self.limit))

    def update(self, observed: Observed) -> None:
        """Move the limit after a window."""
        self.windows += 1
        present = observed.round_trip
        if present is not None and self._measures(present, observed.chance):
            return
        step = self._step(observed)
        self.limit = max(float(self.least), min(float(self.most), self.limit + step))

    def _measures(self, present: float, chance: float) -> bool:
        """Whether this window only tells how long the shortest round trip is."""
        if self.windows >= self.jitter * PROBE_EVERY * self.limit:
            self.windows = 0
            self.jitter = _jitter(chance)
        elif self.shortest is not None and present >= self.shortest:
            return False
        self.shortest = present
        return True

    def _step(self, observed: Observed) -> float:
        step = max(1.0, math.floor(math.log10(self.limit)))
        if observed.dropped:
            return -step
        if observed.round_trip is None or self.shortest is None or observed.in_flight * 2 < self.limit:
            return 0
        waiting = math.ceil(self.limit * (1 - self.shortest / observed.round_trip))
        if waiting <= step:
            return BETA * step
        if waiting < ALPHA * step:
            return step
        return -step if waiting > BETA * step else 0


def _jitter(chance: float) -> float:
    """Between a half and one."""
    return 0.5 + chance / 2
