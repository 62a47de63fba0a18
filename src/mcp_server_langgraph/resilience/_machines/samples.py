"""What adaptive limits learn from: samples, gathered into windows.

An algorithm that moves at every sample moves many times within one round trip, before it can see what its last move
did: sample by sample, Gradient2 as published keeps 0.14 of the capacity at 1.2 times the load and Vegas 0.75, over
windows both keep all of it (Netflix concurrency-limits #134; `benchmarks/results/adaptive.md`). So a window closes
after at least a second, two of the shortest round trips and ten samples, and only what it told as a whole is looked at.

Source: Netflix concurrency-limits, ``WindowedLimit`` (1 s, 10 samples, round trips under 100 microseconds are none).

The sums are plain numbers: threads that add at the same moment may lose a sample now and then, which a mean over many
does not feel. Exact are the permits (`places`), not the samples.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol

# Seconds, and samples.
WINDOW: Final = 1.0
LEAST_SAMPLES: Final = 10
# Seconds. What ends sooner was answered from a cache, or did not reach the dependency.
SHORTEST: Final = 100e-6
# Netflix takes a single drop for overload. At a thousand calls a second a dependency with one timeout in a thousand
# would then be held at the smallest limit for good.
TOLERATED_DROPS: Final = 0.01


class Observed(NamedTuple):
    """What one window told.

    ``round_trip``: the mean of the calls that were answered, in seconds; None where none was. ``in_flight``: the most
    there were at once. ``dropped``: more than one call in a hundred was cut or turned away as overload. ``chance``: a
    number in [0, 1) for algorithms with jitter.
    """

    round_trip: float | None
    in_flight: int
    dropped: bool
    chance: float


class Algorithm(Protocol):
    """Something that moves a limit. ``limit`` is the present one, between ``least`` and ``most``."""

    limit: float

    def update(self, observed: Observed) -> None:
        """Move the limit after a window."""

    def bound(self, least: int, most: int) -> None:
        """Keep the limit between these from now on."""


class SampleWindow:
    """Gathers samples until there is enough to look at."""

    __slots__ = ("answered", "drops", "end", "most", "shortest", "total")

    def __init__(self) -> None:
        self.end = -math.inf
        self.shortest = math.inf
        self._begin()

    def _begin(self) -> None:
        self.answered = 0
        self.drops = 0
        self.total = 0.0
        self.most = 0

    def answer(self, round_trip: float, in_flight: int, now: float) -> bool:
        """A call was answered; True when the window can be closed."""
        if round_trip < SHORTEST:
            return False
        self.answered += 1
        self.total += round_trip
        if round_trip < self.shortest:
            self.shortest = round_trip
        if in_flight > self.most:
            self.most = in_flight
        return now >= self.end and self._full(now)

    def drop(self, in_flight: int, now: float) -> bool:
        """A call was cut or turned away as overload; True when the window can be closed."""
        self.drops += 1
        if in_flight > self.most:
            self.most = in_flight
        return now >= self.end and self._full(now)

    def close(self, now: float, chance: float) -> Observed:
        """What it told; the next window begins."""
        answered, drops = self.answered, self.drops
        mean = self.total / answered if answered else None
        dropped = drops > TOLERATED_DROPS * (answered + drops)
        observed = Observed(mean, self.most, dropped, chance)
        length = WINDOW if self.shortest == math.inf else max(WINDOW, 2 * self.shortest)
        self._begin()
        self.shortest = math.inf
        self.end = now + length
        return observed

    def _full(self, now: float) -> bool:
        if self.end == -math.inf:
            self.end = now + WINDOW  # the first sample opens the first window
            return False
        return self.answered + self.drops >= LEAST_SAMPLES
