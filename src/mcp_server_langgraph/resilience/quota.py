"""Quota: what a provider says is left of our limits, and nobody begins a call that it would refuse.

Providers of language models tell with each answer how many requests and tokens are left and when they are whole again.
Between two answers it is predicted: each call takes one request and its estimated tokens before it begins, and settles
them with what it used. Where there is not enough a call is refused, or waits its turn in line. Wrong predictions live
until the next answer. As long as the provider has said nothing, everything passes, but for limits that are given.

A `RateLimit` has a limit of its own; this one follows the provider's, over all processes that share an account. It
stands inside the retry, so that every attempt counts.

Source: the providers' documentation (`_machines.quota_headers`); the machine is in `_machines.quota`, the line in
`_machines.line`.

Errors: `QuotaUsed`. Events: ``rejected``. Metrics: ``quota_*``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from . import config, deadline, events
from ._checks import amount, checked, checked_count
from ._machines.line import Line
from ._machines.quota import NOTHING, Amounts, QuotaMachine
from ._machines.quota_headers import DIMENSIONS, Reading, readings
from ._metering import Held
from ._quota_at import QuotaAt, QuotaMeter
from .errors import QuotaUsed
from .policy import Cost, Policy, Site

__all__ = ["Quota", "QuotaReservation", "QuotaSnapshot", "Usage"]


class Usage(NamedTuple):
    """Tokens of a call: what it sent, and what it got."""

    input: float
    output: float = 0


@dataclass(frozen=True, slots=True)
class QuotaSnapshot:
    """A quota at one moment. ``left`` and ``limits`` by dimension: those of requests, tokens, input_tokens and
    output_tokens that the provider spoke of.
    """

    left: dict[str, float]
    limits: dict[str, float]
    waiting: int
    rejected: int


class QuotaReservation(Held["float | Usage"]):
    """One request and its estimated tokens: end it with `settle`, `keep` or `cancel`, and let it `observe` the answer.

    As a context manager it is kept at its end, and cancelled where a `Rejected` tells that the call was not begun. The
    first ending counts, later ones change nothing; one that nobody ends is kept.
    """

    __slots__ = ("_order", "_quota")

    def __init__(self, quota: Quota, order: int) -> None:
        self._order = order
        self._quota: Quota | None = quota

    def observe(self, headers: Mapping[str, str]) -> None:
        """Believe what the headers of its answer say. To be called before it ends."""
        if self._quota is not None:
            self._quota.hear(headers, self._order)

    def settle(self, used: float | Usage) -> None:
        """It really used so many tokens."""
        self._end(_amounts(used))

    def keep(self) -> None:
        """It used what was reserved, as far as anybody knows."""
        self._end(None)

    def cancel(self) -> None:
        """It was not made."""
        self._end(NOTHING)

    def _end(self, used: Amounts | None) -> None:
        quota, self._quota = self._quota, None
        if quota is not None:
            now = deadline.now()
            quota.machine.ended(self._order, used, now)
            quota.line.advance(now, changed=True)


class Quota(Policy):
    """Follows the limits that a provider tells in the headers of its answers.

    ``tokens``: what a call is thought to use, from its arguments: a number, or a `Usage` where the provider limits what
    is sent and what is got apart (a number counts as sent). ``usage``: what it used, from its result, or from an item
    of its stream, the last one that is not None. ``headers``: those of the answer, from its result or the items of its
    stream; those of errors are found by themselves (``error.response.headers``). ``max_wait``: seconds that a call may
    wait (default 0: refused at once). ``max_queue``: how many may wait (None: no bound). ``gradual``: False where the
    provider counts in fixed windows, so that nothing comes in before the reset. ``limits``: what may be taken in any
    minute, where the provider tells nothing: above 0, by dimension (requests, tokens, input_tokens, output_tokens); of
    a dimension that it tells something of after all, that is followed.

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "quota"

    def __init__(
        self,
        *,
        tokens: Callable[..., float | Usage] | None = None,
        usage: Callable[[Any], float | Usage | None] | None = None,
        headers: Callable[[Any], Mapping[str, str] | None] | None = None,
        max_wait: float | None = None,
        max_queue: int | None = None,
        gradual: bool = True,
        limits: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        for label, function in (("tokens", tokens), ("usage", usage), ("headers", headers)):
            checked("Quota", label, function, "a function", ok=callable(function))
        checked("Quota", "max_wait", max_wait, "at least 0 seconds", ok=max_wait is None or max_wait >= 0)
        checked_count("Quota", "max_queue", max_queue, 0)
        _checked_limits(limits)
        self.name = name
        self._named = name is not None
        self._explicit = max_wait
        self.tokens = tokens
        self.usage = usage
        self.headers = headers
        self.max_queue = math.inf if max_queue is None else max_queue
        self.max_wait = 0.0
        self.machine = QuotaMachine(gradual=gradual, limits=limits)
        self.line: Line[Amounts] = Line(self.machine, NOTHING)
        self.counts = QuotaMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; what the provider said stays."""
        self.max_wait = settings.choose(service, "QUOTA_MAX_WAIT", self._explicit)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        return {"max_wait": self.max_wait}

    def worst_case(self, inner: Cost) -> Cost:
        """The wait in line comes on top."""
        return inner._replace(seconds=inner.seconds + self.max_wait)

    def snapshot(self) -> QuotaSnapshot:
        """The quota now."""
        now, windows = deadline.now(), dict(self.machine.windows)
        return QuotaSnapshot(
            {dimension: window.left(now) for dimension, window in windows.items()},
            {dimension: window.limit for dimension, window in windows.items()},
            len(self.line.waiting),
            self.counts.rejected,
        )

    def observe(self, headers: Mapping[str, str]) -> None:
        """Believe what the headers of an answer say that was not asked for through this quota."""
        self.hear(headers, None)

    def hear(self, headers: Mapping[str, str], order: int | None) -> None:
        """Believe the headers of the answer to the call of that order."""
        now = deadline.now()
        self.machine.heard(readings(headers, time.time()), now, order)
        self.line.advance(now, changed=True)

    def note_foreign(self, amounts: Amounts) -> None:
        """Others who share the quota took so much since the last time; below 0: gave it back."""
        now = deadline.now()
        self.machine.told(amounts, now)
        self.line.advance(now, changed=True)

    def believe(self, said: Mapping[str, Reading]) -> None:
        """Take over what others know of dimensions that no answer of ours has spoken of."""
        unknown = {
            dimension: each for dimension, each in said.items() if dimension not in self.machine.windows
        }
        if unknown:
            now = deadline.now()
            self.machine.heard(unknown, now)
            self.line.advance(now, changed=True)

    def reserve(self, tokens: float | Usage = 0) -> QuotaReservation:
        """Take one request and its tokens now. Never waits. Raises `QuotaUsed`."""
        cost, now = _amounts(tokens), deadline.now()
        order = 0 if self.line.waiting else self.machine.take(cost, now)
        if not order:
            raise self.refusal(self.line.delay(cost, now))
        return QuotaReservation(self, order)

    async def acquire(self, tokens: float | Usage = 0) -> QuotaReservation:
        """The same, waiting in line for at most ``max_wait`` seconds. Raises `QuotaUsed`."""
        turn = await self.line.wait(_amounts(tokens), deadline.patience(self.max_wait), self.max_queue)
        if turn.since is None:
            raise self.refusal(turn.delay)
        return QuotaReservation(self, turn.mark)

    def acquire_sync(self, tokens: float | Usage = 0) -> QuotaReservation:
        """The same, blocking the thread."""
        turn = self.line.wait_sync(_amounts(tokens), deadline.patience(self.max_wait), self.max_queue)
        if turn.since is None:
            raise self.refusal(turn.delay)
        return QuotaReservation(self, turn.mark)

    def refusal(self, delay: float) -> QuotaUsed:
        """Count a refusal; gives what to raise."""
        self.counts.rejected += 1
        events.emit("rejected", self.label, policy=self.kind)
        return QuotaUsed(self.label, delay)

    def refuses_for(self, now: float) -> float:
        """Seconds for which a call will be refused, as far as is known now."""
        return max(0.0, self.line.delay(_amounts(0), now) - self.max_wait)

    def matters_until(self, now: float) -> float:
        """While it is used up."""
        wait = self.line.delay(_amounts(0), now)
        return now + wait if wait > 0 else -math.inf

    def bind(self, site: Site) -> Policy:
        """What stands in one pipeline; the quota is shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        if site.inside_retry:
            site.gates.append(self.refuses_for)
        return QuotaAt(self, site)


def _checked_limits(limits: Mapping[str, float] | None) -> None:
    ok = limits is None or all(
        dimension in DIMENSIONS and 0 < limit < math.inf for dimension, limit in limits.items()
    )
    checked("Quota", "limits", limits, f"numbers above 0 by some of {', '.join(DIMENSIONS)}", ok=ok)


def _amounts(tokens: float | Usage) -> Amounts:
    """One request, and its tokens in each of the ways in which providers count them."""
    used = tokens if isinstance(tokens, Usage) else Usage(tokens)
    for label, value in zip(("input", "output"), used, strict=True):
        amount("Quota", f"{label} tokens", value)
    return Amounts((1.0, float(used.input + used.output), float(used.input), float(used.output)))
