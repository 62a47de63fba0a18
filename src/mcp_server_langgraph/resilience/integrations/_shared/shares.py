"""What one process tells of a policy and what it makes of the others' words: one `Share` for each kind of policy.

`look` is asked for the own fact (None: nothing to say), `heard` gives it a peer's, `act` follows when all were heard.
A fact is *fresh* where the peer is known to be alive; one that is not says only from where to count on. What was heard
is never told on, else two that hear each other would keep it for ever.
"""

from __future__ import annotations

from typing import Final

from ..._machines.quota import Amounts
from ..._machines.quota_headers import DIMENSIONS, Reading
from ...budget import Budget
from ...cooldown import Cooldown
from ...quota import Quota
from ...rate_limit import RateLimit
from .codec import Fact

__all__ = ["BudgetShare", "CooldownShare", "QuotaShare", "RateLimitShare", "Share", "Since"]

# Seconds. What others were told to wait is believed so far: a wrong number must not close a door for a day.
BELIEVED: Final = 3600.0


class Share:
    """One policy that is shared."""

    def look(self, now: float) -> Fact | None:
        """The own fact, to be told."""
        raise NotImplementedError

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        """A replica's fact; empty where it has nothing to say."""
        raise NotImplementedError

    def act(self, now: float, *, connected: bool) -> None:
        """All were heard, or could not be: not ``connected``."""

    def gone(self, replica: str) -> None:
        """It will not come back under that name."""

    def end(self) -> None:
        """Nothing is shared any more: be as if it had never been."""


class Since:
    """How much a peer's totals have grown since it was heard last."""

    def __init__(self) -> None:
        self._totals: dict[str, Fact] = {}

    def grown(self, replica: str, totals: Fact, fresh: bool) -> Fact | None:
        """By how much; None where it is not known from where to count."""
        before = self._totals.get(replica)
        self._totals[replica] = totals
        if before is None or not fresh:
            return None
        return tuple(after - was for was, after in zip(before, totals, strict=True))

    def gone(self, replica: str) -> None:
        self._totals.pop(replica, None)


class Holds:
    """A deadline that is only ever extended: the own one to tell, and those of others, each heard once."""

    def __init__(self) -> None:
        self._until = 0.0
        self._generation = 0
        self._heard: dict[str, float] = {}

    def look(self, until: float, now: float) -> Fact:
        """What to tell of the own one: which it is, and what is left of it."""
        if until <= now:
            return (float(self._generation), 0.0)
        if until != self._until:
            self._until = until
            self._generation += 1
        return (float(self._generation), until - now)

    def heard(self, replica: str, fact: Fact) -> float:
        """Seconds by which to extend ours at the least; 0 where it was heard already. Its word would be a little later
        each time, and so its end.
        """
        generation, left = fact
        if left <= 0 or self._heard.get(replica) == generation:
            return 0.0
        self._heard[replica] = generation
        return min(left, BELIEVED)

    def gone(self, replica: str) -> None:
        self._heard.pop(replica, None)


class CooldownShare(Share):
    """``[which, seconds left]`` of a cooldown that our own calls were told of."""

    def __init__(self, cooldown: Cooldown) -> None:
        self._cooldown = cooldown
        self._holds = Holds()

    def look(self, now: float) -> Fact | None:
        fact = self._holds.look(self._cooldown.machine.own_until, now)
        return fact if fact[1] else None

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        if fresh and len(fact) == 2:
            seconds = self._holds.heard(replica, fact)
            if seconds:
                self._cooldown.extend(seconds)

    def gone(self, replica: str) -> None:
        self._holds.gone(replica)


class RateLimitShare(Share):
    """``[permits taken so far]``. What others take is missing here too, and so all together stay near one limit."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._since = Since()

    def look(self, now: float) -> Fact | None:
        return (max(0.0, self._limit.bucket.taken),)

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        if len(fact) == 1:
            grown = self._since.grown(replica, fact, fresh)
            if grown is not None and grown[0]:
                self._limit.note_foreign(grown[0])

    def gone(self, replica: str) -> None:
        self._since.gone(replica)


class QuotaShare(Share):
    """``[taken of each dimension; which hold, seconds left; of each dimension: limit, left, seconds to the reset]``.

    A dimension that nobody spoke of has the limit 0. Between the provider's answers what others take is missing here
    too; who has no answer of its own yet takes over what the others know.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._since = Since()
        self._holds = Holds()

    def look(self, now: float) -> Fact | None:
        machine = self._quota.machine
        said = machine.readings(now)
        told: list[float] = [max(0.0, each) for each in machine.taken.each]
        told += self._holds.look(machine.own_held_until, now)
        for dimension in DIMENSIONS:
            reading = said.get(dimension)
            told += (0.0,) * 3 if reading is None else (each or 0.0 for each in reading)
        return tuple(told)

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        count = len(DIMENSIONS)
        if len(fact) != count * 4 + 2:
            return
        taken, held, said = fact[:count], fact[count : count + 2], fact[count + 2 :]
        grown = self._since.grown(replica, taken, fresh)
        if not fresh:
            return
        if grown is not None and any(grown):
            self._quota.note_foreign(Amounts(grown))
        self._hold(self._holds.heard(replica, held), now)
        each = (Reading(*said[index * 3 : index * 3 + 3]) for index in range(count))
        self._quota.believe(
            {name: reading for name, reading in zip(DIMENSIONS, each, strict=True) if reading.limit}
        )

    def _hold(self, seconds: float, now: float) -> None:
        if seconds:
            self._quota.machine.hold(seconds, now, told=True)

    def gone(self, replica: str) -> None:
        self._since.gone(replica)
        self._holds.gone(replica)


class BudgetShare(Share):
    """``[first attempts so far, retries and hedges so far]``. The share is one of all traffic, the floor is divided.

    While the others cannot be heard the floor stays divided as it was: a local share, not the whole of it for each.
    """

    def __init__(self, budget: Budget, lease: float) -> None:
        self._budget = budget
        self._lease = lease
        self._since = Since()
        self._sharing: dict[str, float] = {}
        self._sharers = 1

    def look(self, now: float) -> Fact | None:
        arrived, spent = self._budget.tally()
        return (float(arrived), float(spent))

    def heard(self, replica: str, fact: Fact, fresh: bool, now: float) -> None:
        if len(fact) != 2:
            return
        grown = self._since.grown(replica, fact, fresh)
        if fresh:
            self._sharing[replica] = now + self._lease
        if grown is not None and any(grown):
            self._budget.note_foreign(max(0, int(grown[0])), max(0, int(grown[1])))

    def act(self, now: float, *, connected: bool) -> None:
        if connected:
            self._sharing = {replica: until for replica, until in self._sharing.items() if until > now}
            self._divide(1 + len(self._sharing))

    def _divide(self, sharers: int) -> None:
        if sharers != self._sharers:
            self._sharers = sharers
            self._budget.share_floor(sharers)

    def gone(self, replica: str) -> None:
        self._since.gone(replica)

    def end(self) -> None:
        self._divide(1)
