"""A quota at work in one pipeline: what a call is thought to use, what it used, and what its answer says is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import deadline
from ._http_facts import headers_of, terminal_quota
from ._metering import Entry, Reserving, asked
from .errors import Rejected, ResilienceError
from .metrics import Sample
from .policy import Call, Site

if TYPE_CHECKING:
    from .quota import Quota, QuotaReservation, Usage

    _Entry = Entry[QuotaReservation, float | Usage]


class QuotaAt(Reserving["QuotaReservation", "float | Usage"]):
    """The quota at one pipeline."""

    kind = "quota"

    def __init__(self, policy: Quota, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = policy.counts

    async def begin(self, call: Call) -> _Entry:
        return Entry(await self.policy.acquire(self._tokens(call)))

    def begin_sync(self, call: Call) -> _Entry:
        return Entry(self.policy.acquire_sync(self._tokens(call)))

    def _tokens(self, call: Call) -> float | Usage:
        tokens = self.policy.tokens
        return 0 if tokens is None else tokens(*call.args, **call.kwargs)

    def saw(self, entry: _Entry, result: Any) -> None:
        policy = self.policy
        if policy.headers is not None:
            headers = asked(policy, self.site.name, policy.headers, result)
            if headers is not None:
                entry.held.observe(headers)
        if policy.usage is not None:
            used = asked(policy, self.site.name, policy.usage, result)
            entry.used = entry.used if used is None else used

    def failed(self, entry: _Entry, exc: BaseException) -> None:
        if isinstance(exc, Rejected):
            entry.held.cancel()
        headers = headers_of(exc)
        if headers is not None:
            entry.held.observe(headers)
        if isinstance(exc, Exception) and not isinstance(exc, ResilienceError):
            # Not of the headers alone: Google tells it in the body, and SDKs wrap what tells it.
            wait = self.site.verdict(exc).retry_after
            if wait is not None and not terminal_quota(exc):
                self.policy.machine.hold(wait, deadline.now())
        self.ended(entry)


class QuotaMeter:
    """The numbers of a quota."""

    def __init__(self, policy: Quota) -> None:
        self.policy = policy
        self.rejected = 0

    def samples(self) -> Iterator[Sample]:
        policy = self.policy
        name, now = policy.label, deadline.now()
        yield Sample("quota_rejected_total", (name,), self.rejected)
        yield Sample("quota_queue_depth", (name,), len(policy.line.waiting))
        for dimension, window in dict(policy.machine.windows).items():
            yield Sample("quota_left", (name, dimension), window.left(now))
            yield Sample("quota_limit", (name, dimension), window.limit)
