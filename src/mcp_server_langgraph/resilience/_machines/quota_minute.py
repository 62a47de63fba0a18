"""A dimension of the quota whose limit we were given, as its provider tells none: at most so much in any minute.

What a call takes is missing for a minute, and then is there again. A bucket that refills steadily, as those providers
have that tell what is left (`quota.Window`), would let nearly twice the limit through in the minute after a pause. One
that never does is too small for an agent's few calls in a row, or uses half of the limit.

Kept is what was taken at which time, for a minute. Once an answer tells more, a `Window` takes its place.

Source: https://ai.google.dev/gemini-api/docs/rate-limits (with a limit of 20, 21 requests within a minute are an error)
"""

from __future__ import annotations

import math
from typing import Final

from .quota_headers import Reading

# Seconds. The period of nearly all providers' limits.
PERIOD: Final = 60.0
# Seconds. What is taken within one of them counts from its end on: that is never too soon, and few numbers are kept
# whatever the limit is. A power of two, so that times are exact.
GRAIN: Final = 0.25
# Of a limit. Less is no difference.
SLACK: Final = 1e-6


class Minute:
    """One dimension of the quota: ``limit`` (> 0) in any minute."""

    __slots__ = ("_taken", "limit", "order")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.order = 0  # no answer spoke of it: what calls used is always settled by us
        self._taken: dict[float, float] = {}

    def left(self, now: float) -> float:
        """What is left; below 0 where more was taken."""
        return self.limit - sum(amount for _, amount in self._counting(now))

    def take(self, amount: float, now: float) -> None:
        """Take it. Below 0: others gave back what they took nobody knows when; the oldest goes first, so that nothing
        of it is missing for too short.
        """
        self._taken = dict(self._counting(now))
        if amount >= 0:
            at = _counted_from(now)
            self._taken[at] = self._taken.get(at, 0.0) + amount
            return
        for at in self._taken:
            amount += self._lessen(at, -amount)

    def settle(self, unused: float, since: float, now: float) -> None:
        """A call that took at ``since`` used so much less; below 0: so much more, which counts from now on."""
        if unused < 0:
            self.take(-unused, now)
        elif (at := _counted_from(since)) in self._taken:
            self._lessen(at, unused)

    def delay(self, amount: float, now: float, ahead: float) -> float:
        """Seconds until so much is left, after what is ahead, each as soon as it can; what is more than the limit needs
        all of it.
        """
        wanted = min(amount, self.limit) + ahead
        # Those ahead fill so many whole ones, and after each of them it is as now.
        minutes = max(0, math.ceil(wanted / self.limit) - 1)
        missing = wanted - minutes * self.limit - self.left(now)
        wait = 0.0
        for at, taken in self._counting(now):
            if missing <= SLACK * self.limit:
                break
            missing -= taken
            wait = at + PERIOD - now
        return minutes * PERIOD + wait

    def reading(self, now: float) -> Reading:
        """What an answer would say that came now."""
        last = max((at for at, amount in self._counting(now) if amount), default=now - PERIOD)
        return Reading(self.limit, max(0.0, self.left(now)), last + PERIOD - now)

    def _counting(self, now: float) -> list[tuple[float, float]]:
        return [(at, amount) for at, amount in list(self._taken.items()) if at + PERIOD > now]

    def _lessen(self, at: float, amount: float) -> float:
        """Have so much of what was taken then given back, as far as there is so much; gives how much there was."""
        lessened = min(amount, self._taken[at])
        self._taken[at] -= lessened
        return lessened


def _counted_from(at: float) -> float:
    return math.ceil(at / GRAIN) * GRAIN
