"""A rate limit at work in one pipeline: one permit for each call, or as many as it weighs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import deadline
from ._metering import Entry, Reserving, asked
from .errors import Rejected
from .metrics import Sample
from .policy import WAIT, Call, Guard, Site

if TYPE_CHECKING:
    from .rate_limit import RateLimit, Reservation


class RateLimitGuard(Guard):
    """The limit at one pipeline where each call takes one permit."""

    waits = True

    def __init__(self, policy: RateLimit, site: Site) -> None:
        self.policy = policy
        self.bucket = policy.bucket
        self.line = policy.line
        self.waiting = policy.line.waiting
        self.meter = policy.counts
        self.site = site

    def enter(self, now: float) -> object:
        if not self.waiting and self.bucket.take(1.0, now):
            return now
        if self.policy.max_wait <= 0:
            raise self.policy.refusal(self.line.delay(1.0, now), self.site.name)
        return WAIT

    async def wait(self) -> float:
        policy = self.policy
        turn = await self.line.wait(1.0, deadline.patience(policy.max_wait), policy.max_queue)
        if turn.since is None:
            raise policy.refusal(turn.delay, self.site.name)
        return turn.since

    def wait_sync(self) -> float:
        policy = self.policy
        turn = self.line.wait_sync(1.0, deadline.patience(policy.max_wait), policy.max_queue)
        if turn.since is None:
            raise policy.refusal(turn.delay, self.site.name)
        return turn.since

    def failed(self, token: float, now: float, exc: BaseException) -> None:
        if isinstance(exc, Rejected):
            self.bucket.give_back(1.0, 1, token, now)
            self.line.advance(now, changed=True)


class WeighedLimit(Reserving["Reservation", float]):
    """The limit at one pipeline where the permits of a call depend on it."""

    kind = "rate_limit"

    def __init__(self, policy: RateLimit, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = policy.counts

    async def begin(self, call: Call) -> Entry[Reservation, float]:
        return Entry(await self.policy.acquire(self._weight(call)))

    def begin_sync(self, call: Call) -> Entry[Reservation, float]:
        return Entry(self.policy.acquire_sync(self._weight(call)))

    def _weight(self, call: Call) -> float:
        weight = self.policy.weight
        return 1.0 if weight is None else weight(*call.args, **call.kwargs)

    def saw(self, entry: Entry[Reservation, float], result: Any) -> None:
        if self.policy.usage is not None:
            used = asked(self.policy, self.site.name, self.policy.usage, result)
            entry.used = entry.used if used is None else used


class RateLimitMeter:
    """The numbers of a rate limit."""

    def __init__(self, policy: RateLimit) -> None:
        self.policy = policy
        self.rejected = 0

    def samples(self) -> Iterator[Sample]:
        policy = self.policy
        name = (policy.label,)
        yield Sample("rate_limit_rejected_total", name, self.rejected)
        yield Sample("rate_limit_queue_depth", name, len(policy.line.waiting))
        if policy.rate[0] < math.inf:
            yield Sample("rate_limit_permits_left", name, policy.bucket.level(deadline.now()))
