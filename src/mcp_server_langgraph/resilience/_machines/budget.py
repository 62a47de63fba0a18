"""How many retries and hedges there may be now. Pure: ``now`` is an argument.

Two allowances, of which the larger counts. The *share*: what was spent within the window stays below ``ratio`` of
the traffic within the window. The *floor*, for who has little traffic: a bucket of `RESERVE` tokens which fills up at
``per_second``, until ``per_second * window`` were spent. Only the floor has something at the start: a bucket that
starts full is no protection against many small clients, of which each spends its own.

Traffic is not seen as it comes (that would cost on the success path) but in looks: what arrived between two looks
is taken as spread evenly over the time between them. What is close together is kept as one, so the window is exact to
a hundredth of its length, and memory does not grow with traffic.

Sources: Finagle ``RetryBudget``, Envoy ``retry_budget`` (the floor as a minimum, not an addition), linkerd
``retryBudget``, M. Brooker, "What is backoff for?" (2022).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# Tokens of the floor. The two retries that a call makes by default, and one more.
RESERVE: Final = 3.0

_GRAINS: Final = 100


class _Span:
    """So many, spread evenly over a stretch of time."""

    __slots__ = ("begin", "count", "end")

    def __init__(self, begin: float, end: float, count: int) -> None:
        self.begin = begin
        self.end = end
        self.count = count


class _Recent:
    """How many there were within the window."""

    __slots__ = ("_grain", "_spans", "_total")

    def __init__(self, window: float) -> None:
        self._grain = window / _GRAINS
        self._spans: deque[_Span] = deque()
        self._total = 0

    def add(self, begin: float, end: float, count: int) -> None:
        last = self._spans[-1] if self._spans else None
        if last is not None and end - last.begin <= self._grain:
            last.end = end
            last.count += count
        else:
            self._spans.append(_Span(begin, end, count))
        self._total += count

    def since(self, start: float) -> float:
        """Those after ``start``; what lies before is forgotten."""
        spans = self._spans
        while spans and spans[0].end <= start:
            self._total -= spans.popleft().count
        if not spans or spans[0].begin >= start:
            return self._total
        oldest = spans[0]
        return self._total - oldest.count * (start - oldest.begin) / (oldest.end - oldest.begin)

    def clear(self) -> None:
        self._spans.clear()
        self._total = 0


class Allowance:
    """The retries and hedges allowed. ``began``: when traffic began to be counted."""

    __slots__ = ("_arrived", "_last", "_spent", "_tokens", "per_second", "ratio", "sharers", "window")

    def __init__(self, ratio: float, per_second: float, window: float, began: float) -> None:
        self.ratio = ratio
        self.per_second = per_second
        self.window = window
        self.sharers = 1  # of the floor: each lets so much less of it come in
        self._arrived = _Recent(window)
        self._spent = _Recent(window)
        self._tokens = RESERVE
        self._last = began

    def look(self, now: float, arrived: int) -> float:
        """Note how many arrived since the last look; gives the time that counts.

        Threads may come a little late; what lies a whole window back is the time of another clock, and nothing that
        was noted by the old one says anything any more.
        """
        if now < self._last - self.window:
            self._arrived.clear()
            self._spent.clear()
            self._last = now
        now = max(now, self._last)
        self._tokens = min(RESERVE, self._tokens + (now - self._last) * self.per_second / self.sharers)
        if arrived:
            self._arrived.add(self._last, now, arrived)
        self._last = now
        return now

    def told(self, now: float, arrived: int, spent: int) -> None:
        """Others who share it had so much traffic since they told last, and spent so many."""
        now = self.look(now, 0)
        if arrived:
            self._arrived.add(now, now, arrived)
        if spent:
            self._spent.add(now, now, spent)

    def take(self, now: float, arrived: int) -> bool:
        """Take one, if there may be one more; ``arrived`` since the last look."""
        now = self.look(now, arrived)
        start = now - self.window
        spent = self._spent.since(start)
        if spent + 1 >= self.ratio * self._arrived.since(start):
            if self._tokens < 1 or spent + 1 > self._floor:
                return False
            self._tokens -= 1
        self._spent.add(now, now, 1)
        return True

    def balance(self, now: float, arrived: int) -> int:
        """How many could be taken at ``now``."""
        now = self.look(now, arrived)
        start = now - self.window
        spent = self._spent.since(start)
        share = max(0, math.ceil(self.ratio * self._arrived.since(start) - spent) - 1)
        floor = max(0, min(math.floor(self._tokens), math.floor(self._floor - spent - share)))
        return share + floor

    @property
    def _floor(self) -> float:
        return max(RESERVE, self.per_second * self.window) if self.per_second > 0 else 0.0
