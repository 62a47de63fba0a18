"""The quota's machine: what a provider said is left, and what we have taken of it since.

Each dimension (requests, tokens, ...) is what the newest answer said, less the calls that had begun after that answer's
own call and were still under way, less what began since, plus what has come in. Providers refill steadily: what is
missing will be there at the reset, and half of it half way there (``gradual``); where a provider counts in fixed
windows nothing comes before the reset.

The order of answers is that of their calls' beginnings: an answer to an older call says nothing new. And what we
guessed of a call is not corrected by us once an answer to it, or to a later one, was heard: the provider's word
includes it. So wrong guesses live until the next answer. A dimension that nobody spoke of limits nothing, unless we
were given its limit (`quota_minute`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add, sub
from typing import Final, NamedTuple

from .quota_headers import DIMENSIONS, Reading
from .quota_minute import PERIOD, SLACK, Minute

# A reset that belongs to less than this share of the limit is rounded too much to tell the rate.
TELLING_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a call takes, in the order of the dimensions."""

    each: tuple[float, ...]

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(tuple(map(add, self.each, other.each)))

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(tuple(map(sub, self.each, other.each)))


NOTHING: Final = Amounts((0.0,) * len(DIMENSIONS))


class Window:
    """One dimension of the quota."""

    __slots__ = ("_at", "_gradual", "_left", "limit", "order", "rate", "reset_at")

    def __init__(self, *, gradual: bool) -> None:
        self._gradual = gradual
        self._left = self._at = 0.0
        self.limit = self.rate = 0.0
        self.reset_at = -math.inf
        self.order = 0

    def left(self, now: float) -> float:
        """What is left, as far as we know; below 0 where more was taken."""
        if self._gradual:
            return min(self.limit, self._left + (now - self._at) * self.rate)
        return self._left if now < self.reset_at else self.limit

    def read(self, reading: Reading, pending: float, order: int, now: float) -> None:
        """Believe an answer. ``pending``: what was under way and cannot be in it."""
        remaining = reading.remaining or 0.0
        limit = reading.limit or self.limit or remaining
        if not limit:
            return
        missing, reset = max(0.0, limit - remaining), reading.reset or 0.0
        if missing and reset and (missing >= limit * TELLING_SHARE or not self.rate):
            self.rate = missing / reset
        elif not self.rate or limit != self.limit:
            self.rate = limit / PERIOD
        self.limit, self.order = limit, order
        self.reset_at = now + (reset or (missing / self.rate))
        self._left, self._at = remaining - pending, now

    def take(self, amount: float, now: float) -> None:
        """Take it, or give it back where it is below 0."""
        left = self.left(now)
        if not self._gradual and now >= self.reset_at:
            self.reset_at = now + PERIOD
        self._left, self._at = min(self.limit, left - amount), now

    def settle(self, unused: float, _since: float, now: float) -> None:
        """A call used so much less than it took; below 0: so much more."""
        self.take(-unused, now)

    def reading(self, now: float) -> Reading:
        """What an answer would say that came now."""
        left = max(0.0, self.left(now))
        reset = (self.limit - left) / self.rate if self._gradual else max(0.0, self.reset_at - now)
        return Reading(self.limit, left, reset)

    def delay(self, amount: float, now: float, ahead: float) -> float:
        """Seconds until so much is left, after what is ``ahead``; what is more than the limit needs all of it."""
        missing = min(amount, self.limit) + ahead - self.left(now)
        if missing <= SLACK * self.limit:
            return 0.0
        return missing / self.rate if self._gradual else max(0.0, self.reset_at - now)


class _Begun(NamedTuple):
    """A call that is under way: what it took, and when."""

    cost: Amounts
    at: float


class QuotaMachine:
    """All dimensions together: a call begins when there is enough of each. ``limits``: those that we were given, for a
    minute, by dimension.
    """

    __slots__ = (
        "_gradual",
        "_lock",
        "_order",
        "_under_way",
        "held_until",
        "own_held_until",
        "taken",
        "windows",
    )

    def __init__(self, *, gradual: bool = True, limits: Mapping[str, float] | None = None) -> None:
        self.windows: dict[str, Window | Minute] = {
            dimension: Minute(limit) for dimension, limit in (limits or {}).items()
        }
        self.held_until = self.own_held_until = -math.inf
        self.taken = NOTHING  # by our own calls in all, as far as is known
        self._gradual = gradual
        self._under_way: dict[int, _Begun] = {}
        self._order = 0
        # Several numbers change together. A call to a provider takes a thousand times as long as a lock.
        self._lock = threading.RLock()

    def take(self, cost: Amounts, now: float) -> int:
        """Take it, if there is enough of everything: the call's number in the order of beginnings, or 0."""
        with self._lock:
            if self.delay(cost, now, NOTHING) > 0:
                return 0
            self.told(cost, now)
            self.taken = self.taken + cost
            self._order += 1
            self._under_way[self._order] = _Begun(cost, now)
            return self._order

    def delay(self, cost: Amounts, now: float, ahead: Amounts) -> float:
        """Seconds until there is enough of everything; 0: now."""
        with self._lock:
            delays = [self.held_until - now]
            for dimension, amount, before in zip(DIMENSIONS, cost.each, ahead.each, strict=True):
                if amount and dimension in self.windows:
                    delays.append(self.windows[dimension].delay(amount, now, before))
        longest = max(delays)
        return longest if longest > SLACK else 0.0

    def give_back(self, cost: Amounts, mark: int, since: float, now: float) -> None:
        """The call was not made."""
        self.ended(mark, NOTHING, now)

    def ended(self, order: int, used: Amounts | None, now: float) -> None:
        """A call ended; ``used``: what it is known to have used, None where nobody said."""
        with self._lock:
            begun = self._under_way.pop(order, None)
            if begun is None or used is None:
                return
            cost, since = begun
            self.taken = self.taken + used - cost
            for dimension, unused in zip(DIMENSIONS, (cost - used).each, strict=True):
                window = self.windows.get(dimension)
                if window is not None and window.order < order:
                    window.settle(unused, since, now)

    def heard(self, said: dict[str, Reading], now: float, order: int | None = None) -> None:
        """Hear an answer to the call of that order; None: to none that is under way."""
        with self._lock:
            order = self._order if order is None else order
            for index, dimension in enumerate(DIMENSIONS):
                if dimension not in said:
                    continue
                window = self.windows.get(dimension)
                if not isinstance(window, Window):
                    window = Window(gradual=self._gradual)
                if order >= window.order:
                    later = [begun.cost.each[index] for n, begun in self._under_way.items() if n > order]
                    window.read(said[dimension], sum(later), order, now)
                    if window.limit:
                        self.windows[dimension] = window

    def hold(self, seconds: float, now: float, *, told: bool = False) -> None:
        """Let nobody begin for so long. Only ever extended. ``told``: as others who share it have to wait."""
        with self._lock:
            if now + seconds > self.held_until:
                self.held_until = now + seconds
                if not told:
                    self.own_held_until = self.held_until

    def told(self, amounts: Amounts, now: float) -> None:
        """So much was taken, by whomever; below 0: given back."""
        with self._lock:
            for dimension, amount in zip(DIMENSIONS, amounts.each, strict=True):
                if dimension in self.windows:
                    self.windows[dimension].take(amount, now)

    def readings(self, now: float) -> dict[str, Reading]:
        """What an answer would say that came now, as far as we know."""
        with self._lock:
            return {dimension: window.reading(now) for dimension, window in self.windows.items()}
