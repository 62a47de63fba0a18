"""Shares of a limit that are guaranteed to levels of criticality.

While places are free anybody may take them. Where calls wait, the place that comes free goes to a level that holds
less than its share, the most critical first; where none does, to the most critical that waits. So background work
cannot starve interactive calls, nor the other way round, and no place is ever kept empty.

Source: Netflix concurrency-limits, ``AbstractPartitionedLimiter`` (shares count only when the limit is reached). There
a level below its share is let in beyond the limit; here the limit holds, and it is the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping


class Shares:
    """``guaranteed``: parts of the limit (0 to 1) by level. The places held are counted by level, in deques because
    their ``append`` and ``pop`` are atomic.
    """

    __slots__ = ("busy", "guaranteed")

    def __init__(self, levels: int, guaranteed: Mapping[int, float]) -> None:
        self.guaranteed = dict(guaranteed)
        self.busy: tuple[deque[None], ...] = tuple(deque[None]() for _ in range(levels))

    def pick(self, waiting: Iterable[int], limit: int) -> int | None:
        """The level whose turn it is, of those that wait."""
        levels = sorted(waiting, reverse=True)
        return next((level for level in levels if self.is_short(level, limit)), levels[0] if levels else None)

    def is_short(self, level: int, limit: int) -> bool:
        """Whether the level holds less than its share, which is rounded up."""
        return len(self.busy[level]) < math.ceil(limit * self.guaranteed.get(level, 0.0))
