"""Rate limit: at most so many permits in a time, for a dependency that would refuse more.

A token bucket. A call takes one permit, or as many as ``weight`` says; where they are not there it is refused at once,
or waits its turn in line where that comes soon enough. What a call will really use is often known afterwards only (the
tokens of an answer): then it reserves an estimate and settles it, which gives back or adds a debt that delays the next.

A concurrency limit guards us, a rate limit guards the dependency: it stands inside the retry, so that every attempt
counts. A call that something further in did not let begin (an open circuit) gives its permits back; one that failed or
was cancelled was made, and does not.

Source: the Generic Cell Rate Algorithm (ITU-T I.371, annex A); the machine is in `_machines.tokens`, the line in
`_machines.line`.

Errors: `RateLimited`. Events: ``rejected``. Metrics: ``rate_limit_*``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from . import config, deadline, events
from ._checks import amount, checked, checked_count
from ._machines.line import Line
from ._machines.tokens import TokenBucket
from ._metering import Held
from ._rate_limit_at import RateLimitGuard, RateLimitMeter, WeighedLimit
from .errors import RateLimited
from .policy import Cost, Guard, Policy, Site

__all__ = ["RateLimit", "RateLimitSnapshot", "Reservation"]


@dataclass(frozen=True, slots=True)
class RateLimitSnapshot:
    """A rate limit at one moment. ``left``: permits in the bucket, below 0 where some are owed."""

    permits: float
    per: float
    burst: float
    left: float
    waiting: int
    rejected: int


class Reservation(Held[float]):
    """Permits taken for work whose real use is known later: end it with `settle`, `keep` or `cancel`.

    As a context manager it is kept at its end, and cancelled where a `Rejected` tells that the work was not begun. The
    first ending counts, later ones change nothing; one that nobody ends is kept.
    """

    __slots__ = ("_limit", "_mark", "weight")

    def __init__(self, limit: RateLimit, weight: float, mark: int) -> None:
        self.weight = weight
        self._mark = mark
        self._limit: RateLimit | None = limit

    def settle(self, actual: float) -> None:
        """It really used ``actual`` permits (>= 0): what is left comes back, what is missing becomes a debt."""
        unused = self.weight - amount("RateLimit", "actual", actual)
        limit = self._limit
        if limit is not None:
            limit.settle_unused(unused, self._mark)
            self.keep()

    def keep(self) -> None:
        """It used what was reserved, as far as anybody knows."""
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.bucket.closed()

    def cancel(self) -> None:
        """It used nothing."""
        self.settle(0)


class RateLimit(Policy):
    """At most ``permits`` each ``per`` seconds (both > 0; default: 1 second; permits None: from the settings, and where
    those have none there is no limit).

    ``burst``: permits that may be taken at once after a quiet time (> 0; default: ``permits``). ``max_wait``: seconds
    that a call may wait for its turn (default 0: refused at once); it is refused at once too where its turn comes later
    than that, or than its deadline. ``max_queue``: how many may wait (None: as many as ``max_wait`` has turns for).
    ``weight``: permits that a call takes, from its arguments (default: one). ``settle``: permits that it really used,
    from its result, or from an item of its stream, the last one that is not None; None: as many as it took.

    A weight beyond ``burst`` is let through when the bucket is full, and leaves a debt.

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "rate_limit"

    def __init__(
        self,
        permits: float | None = None,
        per: float | None = None,
        *,
        burst: float | None = None,
        max_wait: float | None = None,
        max_queue: int | None = None,
        weight: Callable[..., float] | None = None,
        settle: Callable[[Any], float | None] | None = None,
        name: str | None = None,
    ) -> None:
        for label, value in (("permits", permits), ("per", per), ("burst", burst)):
            checked("RateLimit", label, value, "above 0", ok=value is None or value > 0)
        checked("RateLimit", "max_wait", max_wait, "at least 0 seconds", ok=max_wait is None or max_wait >= 0)
        checked_count("RateLimit", "max_queue", max_queue, 0)
        for label, function in (("weight", weight), ("settle", settle)):
            checked("RateLimit", label, function, "a function", ok=callable(function))
        self.name = name
        self._named = name is not None
        self._explicit = (permits, per, burst, max_wait)
        self.weight = weight
        self.usage = settle
        self.max_queue = math.inf if max_queue is None else max_queue
        self.max_wait, self.rate = self._chosen(config.current(), name or "")
        self.bucket = TokenBucket(*self.rate)
        self.line: Line[float] = Line(self.bucket, 0.0)
        self.counts = RateLimitMeter(self)

    def _chosen(self, settings: config.Settings, service: str) -> tuple[float, tuple[float, float, float]]:
        permits, per, burst, max_wait = self._explicit
        permits = settings.choose(service, "RATE_LIMIT_PERMITS", permits) or math.inf
        per = settings.choose(service, "RATE_LIMIT_PER", per)
        burst = settings.choose(service, "RATE_LIMIT_BURST", burst) or permits
        return settings.choose(service, "RATE_LIMIT_MAX_WAIT", max_wait), (permits, per, burst)

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; the permits in the bucket stay, and those in line are told."""
        self.max_wait, rate = self._chosen(settings, service)
        if rate != self.rate:
            now = deadline.now()
            self.rate = rate
            self.bucket.change(*rate, now)
            self.line.advance(now, changed=True)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        permits, per, burst = self.rate
        return {"permits": permits, "per": per, "burst": burst, "max_wait": self.max_wait}

    def worst_case(self, inner: Cost) -> Cost:
        """The wait in line comes on top."""
        return inner._replace(seconds=inner.seconds + self.max_wait)

    def snapshot(self) -> RateLimitSnapshot:
        """The rate limit now."""
        left = self.bucket.level(deadline.now())
        return RateLimitSnapshot(*self.rate, left, len(self.line.waiting), self.counts.rejected)

    def matters_until(self, now: float) -> float:
        """Until the bucket is full: a new one would give more."""
        full_at = self.bucket.full_at
        return full_at if full_at > now else -math.inf

    # Reservations, outside a pipeline

    def reserve(self, weight: float = 1.0) -> Reservation:
        """Take ``weight`` permits now. Never waits. Raises `RateLimited`."""
        amount("RateLimit", "weight", weight)
        now = deadline.now()
        self.bucket.opened()
        mark = 0 if self.line.waiting else self.bucket.take(weight, now)
        if mark:
            return Reservation(self, weight, mark)
        self.bucket.closed()
        raise self.refusal(self.line.delay(weight, now))

    async def acquire(self, weight: float = 1.0) -> Reservation:
        """Take ``weight`` permits, waiting in line for at most ``max_wait`` seconds. Raises `RateLimited`."""
        amount("RateLimit", "weight", weight)
        self.bucket.opened()
        try:
            turn = await self.line.wait(weight, deadline.patience(self.max_wait), self.max_queue)
            if turn.since is None:
                raise self.refusal(turn.delay)
        except BaseException:
            self.bucket.closed()
            raise
        return Reservation(self, weight, turn.mark)

    def acquire_sync(self, weight: float = 1.0) -> Reservation:
        """The same, blocking the thread."""
        amount("RateLimit", "weight", weight)
        self.bucket.opened()
        try:
            turn = self.line.wait_sync(weight, deadline.patience(self.max_wait), self.max_queue)
            if turn.since is None:
                raise self.refusal(turn.delay)
        except BaseException:
            self.bucket.closed()
            raise
        return Reservation(self, weight, turn.mark)

    def settle_unused(self, unused: float, mark: int) -> None:
        """Give back what was taken and not used (``mark``: the bucket's); below 0: take what was used beyond it."""
        now = deadline.now()
        if unused >= 0:
            self.bucket.refund(unused, mark, now)
        else:
            self.bucket.charge(-unused, now)
        self.line.advance(now, changed=True)

    def note_foreign(self, permits: float) -> None:
        """Others who share the limit took so many (below 0: gave back): there are fewer here by as many, and perhaps
        some are owed.
        """
        now = deadline.now()
        self.bucket.owe(permits, now)
        self.line.advance(now, changed=True)

    def refusal(self, delay: float, pipeline: str | None = None) -> RateLimited:
        """Count a refusal; gives what to raise."""
        label = pipeline or self.label
        self.counts.rejected += 1
        events.emit("rejected", label, policy=self.kind)
        return RateLimited(label, delay)

    # In a pipeline

    def refuses_for(self, now: float) -> float:
        """Seconds for which a call will be refused, as far as is known now."""
        return max(0.0, self.line.delay(1.0, now) - self.max_wait)

    def bind(self, site: Site) -> Guard | Policy:
        """What stands in one pipeline; the bucket is shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        if site.inside_retry:
            site.gates.append(self.refuses_for)
        if self.weight is None and self.usage is None:
            return RateLimitGuard(self, site)
        return WeighedLimit(self, site)
