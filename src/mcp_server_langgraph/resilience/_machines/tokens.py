"""The rate limit's machine: a token bucket, kept as the one moment at which it will be full again.

Of a bucket that refills at a steady rate that moment tells everything: what is missing now is ``full_at - now`` times
the rate. Taking moves it away, giving back moves it nearer, and nothing has to tick (the Generic Cell Rate Algorithm,
ITU-T I.371, annex A). What is missing may be more than the bucket holds: a debt, which delays those who come next.

`take` is straight-line code without a call after its check: CPython changes threads at calls and backward jumps only,
so no lock is needed there.

A reservation that is cancelled or settled for less must leave the bucket as if the rest had never been taken. What the
bucket would have lost meanwhile by being full is lost all the same: so not more comes back than was missing at every
moment since. While reservations are open (`opened`) the bucket notes the moments at which less was missing than at any
later one (a stack that grows upward in both age and what was missing).
"""

from __future__ import annotations

import bisect
import math
import threading
from typing import Final

# Seconds. More than what is lost by rounding of a clock that has run for years, less than anybody waits for.
SLACK: Final = 1e-7


class TokenBucket:
    """``permits`` each ``per`` seconds, and up to ``burst`` at once after a quiet time. Infinite permits: no limit."""

    __slots__ = (
        "_depth",
        "_lock",
        "_low_marks",
        "_lows",
        "_noted",
        "_opened",
        "_spacing",
        "burst",
        "full_at",
        "taken",
    )

    def __init__(self, permits: float, per: float, burst: float) -> None:
        self.full_at = -math.inf
        self.taken = 0.0  # in all, less what came back
        self._opened = 0
        self._low_marks: list[int] = []
        self._noted = 1
        self._lows: list[float] = []
        self._lock = threading.RLock()
        self._set(permits, per, burst)

    def _set(self, permits: float, per: float, burst: float) -> None:
        self.burst = burst
        self._spacing = per / permits  # seconds in which one permit comes in
        self._depth = burst * self._spacing if self._spacing else 0.0

    def change(self, permits: float, per: float, burst: float, now: float) -> None:
        """Refill at another rate from now on; the permits in the bucket stay, as far as it holds them."""
        with self._lock:
            if self._opened:
                self._note_low(now)
            level = self.level(now)
            self._set(permits, per, burst)
            if self.full_at > -math.inf:  # one that was never used is full at any rate
                self.full_at = now + max(0.0, burst - level) * self._spacing if self._spacing else now
            if self._opened:
                self._note_low(now)

    def level(self, now: float) -> float:
        """The permits in it; below 0 where some are owed."""
        return self.burst - self._missing(now)

    def _missing(self, now: float) -> float:
        return max(0.0, self.full_at - now) / self._spacing if self._spacing else 0.0

    def take(self, weight: float, now: float) -> int:
        """Take ``weight`` permits, if they are there: a mark for `refund`, or 0 where they are not.

        What is more than the bucket holds is given when it is full.
        """
        mark = self._note_low(now) if self._opened else 1
        full_at = self.full_at
        if full_at < now:
            full_at = now
        cost = weight * self._spacing
        needed = depth = self._depth
        if cost < depth:
            needed = cost  # no min(): it is a call
        if full_at - now + needed > depth + SLACK and weight:
            return 0
        self.full_at = full_at + cost
        self.taken += weight
        return mark

    def delay(self, weight: float, now: float, ahead: float = 0.0) -> float:
        """Seconds until they can be taken, where ``ahead`` permits are taken before; 0: now."""
        if not weight:
            return 0.0
        full_at = max(self.full_at, now) + ahead * self._spacing
        delay = full_at - now + min(weight * self._spacing, self._depth) - self._depth
        return delay if delay > SLACK else 0.0

    def charge(self, weight: float, now: float) -> None:
        """Take permits whether they are there or not."""
        self.taken += weight
        self.owe(weight, now)

    def owe(self, weight: float, now: float) -> None:
        """Others took them: there are fewer by so many; below 0: more."""
        if self._opened:
            self._note_low(now)
        full_at = self.full_at
        if full_at < now:
            full_at = now
        self.full_at = full_at + weight * self._spacing

    def give_back(self, weight: float, mark: int, since: float, now: float) -> None:
        """Put back what was taken at ``since`` and not used, less all that the bucket can have lost in that time."""
        self.taken -= weight
        cost = weight * self._spacing - (now - since)
        if cost > 0:
            self.full_at -= cost

    # Reservations

    def opened(self) -> None:
        """A reservation is about to be made: take notes. To be called before its permits are taken."""
        with self._lock:
            self._opened += 1

    def closed(self) -> None:
        """One has ended."""
        with self._lock:
            self._opened -= 1
            if not self._opened:
                self._low_marks.clear()
                self._lows.clear()

    def refund(self, weight: float, mark: int, now: float) -> None:
        """Put back what a reservation took and did not use; ``mark`` is what it got for it."""
        with self._lock:
            self.taken -= weight
            at = bisect.bisect_right(self._low_marks, mark)
            for low in self._lows[at : at + 1]:
                weight = min(weight, low)
            # Without it less would have been missing at all those moments, which counts for other reservations.
            self._lows[at:] = [low - weight for low in self._lows[at:]]
            while 0 < at < len(self._lows) and self._lows[at - 1] >= self._lows[at]:
                at -= 1
                del self._lows[at], self._low_marks[at]
            cost = min(weight, self._missing(now)) * self._spacing
            self.full_at -= cost

    def _note_low(self, now: float) -> int:
        with self._lock:
            self._noted += 1
            missing = self._missing(now)
            while self._lows and self._lows[-1] >= missing:
                self._lows.pop()
                self._low_marks.pop()
            self._lows.append(missing)
            self._low_marks.append(self._noted)
            return self._noted
