"""How much is let in at the door, by how late things are.

Delays are averaged over windows. Where the mean is above what is allowed, less is let in from now on; where it is below
half of that, a little more; between the two nothing changes. What is let in is a part of the calls of the last window,
counted by level: the least critical go first, and inside a level chance decides.

Source: H. Zhou et al., "Overload Control for Scaling WeChat Microservices" (DAGOR), SoCC 2018: windows of 1 s or 2,000
requests, overload from a mean delay of 20 ms, 5 % less of what was let in, 1 % more of what came, the threshold found
in a histogram of priorities. Added: the larger the delay, the larger the step (DAGOR needs 27 windows to get down to a
quarter); 1 % more for each calm window in a row (it needs a hundred to open again); and the band between, without which
it swings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WINDOW: Final = 1.0
WINDOW_CALLS: Final = 2000
DOWN: Final = 0.05
# A single window never takes more than half: its mean may be one long block of the loop.
MOST_DOWN: Final = 0.5
UP: Final = 0.01
# Seconds after the end of a window: nobody has come for so long, and what was measured before is over.
STALE: Final = 10.0
# Of the allowed delay: below it, more is let in.
CALM: Final = 0.5


class MeanDelay:
    """Delays of one kind, averaged over the window. Seconds."""

    __slots__ = ("allowed", "count", "last", "total")

    def __init__(self, allowed: float) -> None:
        self.allowed = allowed
        self.last = 0.0
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more delay."""
        self.count += 1
        self.total += seconds

    def close(self) -> float:
        """The window's mean, in parts of what is allowed; the next window begins."""
        self.last = self.total / self.count if self.count else 0.0
        self._begin()
        return self.last / self.allowed


class Door:
    """Lets calls in by level, 0 the least critical. ``threshold`` 1.3 is: nothing of level 0, 70 % of level 1."""

    __slots__ = ("calls", "calm", "came", "end", "threshold")

    def __init__(self, levels: int) -> None:
        self.threshold = 0.0
        self.came = [0] * levels
        self.calls = 0
        self.calm = 0
        self.end: float | None = None

    def lets_in(self, level: int, chance: float) -> bool:
        """Whether a call may pass; it is counted in any case. ``chance`` in [0, 1) is its place inside its level."""
        self.came[level] += 1
        self.calls += 1
        return level + chance >= self.threshold

    def due(self, now: float) -> bool:
        """Whether the window can be closed."""
        if self.end is None:
            self.end = now + WINDOW
        return now >= self.end or self.calls >= WINDOW_CALLS

    def close(self, now: float, delay: float) -> None:
        """Move the threshold after a window whose mean delay was ``delay`` times what is allowed."""
        came = self.came
        let_in = expected(came, self.threshold)
        stale = self.end is not None and now - self.end > STALE
        self.calm = self.calm + 1 if delay < CALM else 0
        if stale or (self.calm and not self.calls):
            self.threshold = 0.0
        elif delay > 1 and self.calls:
            step = min(DOWN * delay, MOST_DOWN)
            self.threshold = max(self.threshold, threshold_for(came, (1 - step) * let_in))
        elif self.calm and self.threshold:
            more = UP * self.calm * self.calls
            self.threshold = min(self.threshold, threshold_for(came, let_in + more))
        self.came = [0] * len(came)
        self.calls = 0
        self.end = now + WINDOW


def expected(came: Sequence[int], threshold: float) -> float:
    """How many of those that came pass a threshold."""
    return sum(count * min(1.0, max(0.0, level + 1 - threshold)) for level, count in enumerate(came))


def threshold_for(came: Sequence[int], wanted: float) -> float:
    """The threshold that so many pass, the most critical first."""
    left = wanted
    for level in range(len(came) - 1, -1, -1):
        if left < came[level]:
            return level + 1 - left / came[level]
        left -= came[level]
    return 0.0
