"""Hedge: where an answer takes longer than most do, ask a second time and take the first answer.

A few requests are slow for reasons of their own (a queue, a pause, a bad replica), and a caller that waits for many of
them is nearly always hit. A second request after the time that 95 % of them take costs 5 % more requests and takes most
of the tail away. Only for what may be repeated: reads, and writes with a key.

A hedge is extra load, and load is often why answers are slow. So hedges are kept within a `Budget`, which they may
share with retries; none begins while a limiter is saturated; and where they do not win, they are switched off for a
while.

Sources: Dean and Barroso, "The Tail at Scale" (CACM 2013); Finagle's ``BackupRequestFilter``; gRPC's proposal A6 (an
error that is not fatal begins the next hedge at once). The race is in `_hedge_race`, the delay in
`_machines.quantile`, the switch in `_machines.hedge_switch`, what is decided and counted in `_hedging`.

Errors: those of the call itself; where all attempts fail, the first one's. Events: ``hedge``, ``hedge_off``,
``hedge_on``. Metrics: ``hedge_*``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from . import _stack, config
from ._checks import checked, checked_time
from ._hedging import HedgeMeter, Hedging
from ._machines.hedge_switch import OFF, HedgeSwitch
from ._machines.quantile import Quantile
from .budget import Budget
from .deadline import now as current_time
from .errors import ConfigurationError
from .policy import Cost, Policy, Site

__all__ = ["Hedge", "HedgeSnapshot", "with_hedge"]

F = TypeVar("F", bound=Callable[..., Any])

# Of a Hedge that shares no budget: hedges stay below this share of the calls ("The Tail at Scale": about 5 %), and for
# who has little traffic one in ten seconds is allowed.
OWN_RATIO: Final = 0.05
OWN_PER_SECOND: Final = 0.1
# Seconds. The delay is that of the last one to two minutes.
WINDOW: Final = 60.0
# Below so many latencies an observed delay is a guess: of 30, one or two lie above the 95th percentile.
MIN_SAMPLES: Final = 30


@dataclass(frozen=True, slots=True)
class HedgeSnapshot:
    """A hedge policy at one moment.

    ``delay``: seconds after which the next call is hedged; None while too few latencies are known. ``off``: why no
    hedge would begin now ("not_winning", "saturated", "max_hedges is 0"); None where one may. ``suppressed``: hedges
    that were not begun, by reason. ``wasted_seconds``: what attempts that lost had worked.
    """

    delay: float | None
    samples: int
    off: str | None
    calls: int
    started: int
    won: int
    wasted_seconds: float
    suppressed: Mapping[str, int]


class Hedge(Policy):
    """Begin a second attempt (a hedge) of a call that is late; the first success wins, the loser is cancelled.

    The call waits until its losers have ended. The function must be one that may be repeated.

    ``delay``: seconds until a call is hedged (above 0); None: the ``quantile`` (above 0, below 1; default 0.95) of
    the recent latencies, at least 1 ms, once ``min_samples`` (default 30) are known. ``max_hedges``: how many may
    begin for one call (>= 0; default 1; 0: none), each a delay after the one before. ``on_failure``: an error that a
    new attempt may cure begins the next hedge at once. ``budget``: what hedges may cost, shared with a `Retry` perhaps;
    None: one of its own, 5 % of the calls. ``saturated``: says that no hedge should begin now; limiters in the same
    pipeline are asked anyway.

    Give every operation a Hedge of its own: latencies of different ones say nothing together. None means: from the
    settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "hedge"
    refuses_sync = "a hedge is a second task beside the first; make it async def"

    def __init__(
        self,
        delay: float | None = None,
        *,
        quantile: float | None = None,
        max_hedges: int | None = None,
        budget: Budget | None = None,
        min_samples: int = MIN_SAMPLES,
        on_failure: bool = True,
        saturated: Callable[[], bool] | None = None,
        name: str | None = None,
    ) -> None:
        _check(delay, quantile, max_hedges, min_samples)
        self.name = name
        self._named = name is not None
        self._explicit = (delay, quantile, max_hedges)
        self._shared_budget = budget
        self.budget = budget or Budget(OWN_RATIO, per_second=OWN_PER_SECOND, name=name)
        self.on_failure = on_failure
        self.saturated = saturated
        self.latencies = Quantile(0.5, WINDOW, min_samples)
        self.switch = HedgeSwitch()
        self.lock = threading.Lock()  # of the switch; taken where a hedge begins or ends
        self.counts = HedgeMeter(self)
        self.sites: weakref.WeakSet[Hedging] = weakref.WeakSet()
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for calls that begin from now on."""
        delay, quantile, max_hedges = self._explicit
        if quantile is None:
            self.fixed: float | None = settings.choose(service, "HEDGE_DELAY", delay)
        else:  # said in code, and so stronger than a delay set for every service
            self.fixed = settings.own(service, "HEDGE_DELAY")
        self.max_hedges: int = settings.choose(service, "HEDGE_MAX", max_hedges)
        share: float = settings.choose(service, "HEDGE_QUANTILE", quantile)
        if share != self.latencies.share:
            self.latencies.point_at(share)
        if self._shared_budget is not None:
            self._shared_budget.apply(settings, service)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        delay = {"quantile": self.latencies.share} if self.fixed is None else {"delay": self.fixed}
        return {**delay, "max_hedges": self.max_hedges}

    def worst_case(self, inner: Cost) -> Cost:
        """Every hedge is another request. It begins a delay after the one before, or when that one fails."""
        later = inner.seconds if self.fixed is None else min(self.fixed, inner.seconds)
        return Cost(inner.requests * (1 + self.max_hedges), inner.seconds + self.max_hedges * later)

    def bind(self, site: Site) -> Policy:
        """The races of one pipeline; delay, switch and budget are shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        hedging = Hedging(self, site)
        self.sites.add(hedging)
        return hedging

    def delay(self) -> float | None:
        """Seconds after which a call is hedged, as far as that was known when a call last began or ended."""
        return self.latencies.known if self.fixed is None else self.fixed

    def snapshot(self) -> HedgeSnapshot:
        """The policy now."""
        now = current_time()
        counts = self.counts
        return HedgeSnapshot(
            delay=self.delay(),
            samples=self.latencies.total,
            off=self._off(now),
            calls=counts.calls,
            started=counts.started,
            won=counts.won,
            wasted_seconds=counts.wasted_seconds,
            suppressed=dict(counts.suppressed),
        )

    def _off(self, now: float) -> str | None:
        if self.max_hedges < 1:
            return "max_hedges is 0"
        if self.switch.state(now) == OFF:
            return "not_winning"
        return "saturated" if any(hedging.is_saturated() for hedging in self.sites) else None


def _check(delay: float | None, quantile: float | None, max_hedges: int | None, min_samples: int) -> None:
    if delay is not None and quantile is not None:
        raise ConfigurationError(
            f"Hedge: delay={delay!r} and quantile={quantile!r} exclude each other; the delay is the quantile where it "
            "is not fixed"
        )
    checked_time("Hedge", "delay", delay)
    checked("Hedge", "quantile", quantile, "above 0 and below 1", ok=quantile is None or 0 < quantile < 1)
    counts: tuple[tuple[str, float | None, int], ...] = (
        ("max_hedges", max_hedges, 0),
        ("min_samples", min_samples, 1),
    )
    for label, value, least in counts:
        whole = value is None or (value >= least and int(value) == value)
        checked("Hedge", label, value, f"a whole number of at least {least}", ok=whole)


def with_hedge(delay: float | None = None, **options: Any) -> Callable[[F], F]:
    """Decorate a function that may be repeated with hedges (see `Hedge`)."""

    _stack.refuse_bare("with_hedge", delay)

    def decorate(fn: F) -> F:
        return _stack.add(Hedge(delay, **options), fn)

    return decorate
