"""AIMD: the limit grows by one, and shrinks by a tenth when calls are cut or turned away.

For dependencies whose round trips tell nothing (a model that answers in 2 or in 40 seconds), but which say when they
are overloaded.

Source: D. Chiu, R. Jain, "Analysis of the increase and decrease algorithms for congestion avoidance", 1989; Netflix
concurrency-limits, ``AIMDLimit``: back-off 0.9. Its timeout is not needed here: a call cut by ours is a drop.
"""

from __future__ import annotations

from .samples import Observed


class AIMD:
    """A limit between ``least`` and ``most``, multiplied with ``backoff`` (0.5 to 1) by a window with drops."""

    def __init__(
        self, initial: float = 20, least: int = 20, most: int = 200, *, backoff: float = 0.9
    ) -> None:
        self.limit = float(initial)
        self.backoff = backoff
        self.bound(least, most)

    def bound(self, least: int, most: int) -> None:
        """Keep the limit between these from now on."""
        self.least = least
        self.most = most
        self.limit = max(float(least), min(float(most), self.limit))

    def update(self, observed: Observed) -> None:
        """Move the limit after a window."""
        if observed.dropped:
            self.limit = max(float(self.least), self.limit * self.backoff)
        elif observed.in_flight * 2 >= self.limit:
            self.limit = min(float(self.most), self.limit + 1)
