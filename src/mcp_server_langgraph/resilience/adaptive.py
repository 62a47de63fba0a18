"""Adaptive limit: a concurrency limit that finds its own size, and a line before it that never stands.

Nobody knows the right size of a bulkhead, and it changes with every deployment of the dependency. Too large, calls
queue up inside it until all of them are late; too small, capacity lies idle. Here the limit follows what the calls
themselves tell: their round trips (`_machines.gradient`, the default; `_machines.vegas`) or their time-outs
(`_machines.aimd`), looked at over windows (`_machines.samples`). Calls beyond it wait in a bounded line with
controlled delay, the newest first while it stands (`_machines.codel`, `_machines.admission_queue`); who matters less
goes first, and shares can be guaranteed (`_machines.shares`).

Neutral outcomes are no samples, and of the failures only time-outs and overload are: those are drops. Source: Netflix
concurrency-limits; the rest is named in the machines.

Errors: `LimitReached`, `DeadlineExceeded`. Events: ``rejected``. Metrics: ``adaptive_*``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from . import config
from ._adaptive_guard import AdaptiveGuard, AdaptiveMeter, PartitionedGuard
from ._checks import checked_count, checked_time
from ._machines.aimd import AIMD
from ._machines.gradient import Gradient2
from ._machines.limiter import ALGORITHMS, Limiter, Options
from ._machines.samples import Algorithm, Observed
from ._machines.shares import Shares
from ._machines.vegas import Vegas
from .criticality import Criticality
from .errors import ConfigurationError
from .policy import Cost, Guard, Policy, Site

__all__ = ["AIMD", "AdaptiveLimit", "AdaptiveSnapshot", "Algorithm", "Gradient2", "Observed", "Vegas"]


@dataclass(frozen=True, slots=True)
class AdaptiveSnapshot:
    """An adaptive limit at one moment. ``rejected`` counts by reason and criticality."""

    limit: int
    active: int
    queued: int
    rejected: Mapping[tuple[str, str], int]


class AdaptiveLimit(Policy):
    """At most so many calls at once as the dependency serves without a queue of its own.

    ``algorithm``: "gradient2" (best goodput, the default), "vegas" (shortest round trips), "aimd" (for round trips
    that tell nothing), or an object of one's own (see `Algorithm`). ``initial`` (20), ``min_limit`` (1) and
    ``max_limit`` (200): calls at once.

    ``max_queue``: how many may wait (>= 0; None: as many as the limit). ``queue_interval`` (0.1) and ``queue_target``
    (0.005): seconds that one may wait while the line empties now and then, and while it stands; both are stretched
    where round trips take longer than the interval. ``partitions``: parts of the limit (together 1 at most) that are
    guaranteed to levels of criticality while calls wait. ``chance``: random numbers from 0 up to 1.

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "adaptive_limit"

    def __init__(
        self,
        algorithm: str | Algorithm | None = None,
        *,
        initial: int | None = None,
        min_limit: int | None = None,
        max_limit: int | None = None,
        max_queue: int | None = None,
        queue_target: float | None = None,
        queue_interval: float | None = None,
        partitions: Mapping[Criticality, float] | None = None,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        _check_algorithm(algorithm)
        checked_count("AdaptiveLimit", "max_queue", max_queue, 0)
        _check_limits(initial, min_limit, max_limit)
        checked_time("AdaptiveLimit", "queue_target", queue_target)
        checked_time("AdaptiveLimit", "queue_interval", queue_interval)
        self.name = name
        self._named = name is not None
        self.partitions = _checked_shares(partitions or {})
        self._explicit = (algorithm, initial, min_limit, max_limit, max_queue, queue_target, queue_interval)
        shares = Shares(len(Criticality), {int(level): share for level, share in self.partitions.items()})
        self.limiter = Limiter(self._options(config.current(), name or ""), shares, chance)
        self.counts = AdaptiveMeter(self)

    def _options(self, settings: config.Settings, service: str) -> Options:
        def chosen(variable: str, explicit: Any) -> Any:
            return settings.choose(service, f"ADAPTIVE_{variable}", explicit)

        algorithm, initial, least, most, max_queue, target, interval = self._explicit
        if algorithm is None or isinstance(algorithm, str):
            algorithm = chosen("ALGORITHM", algorithm)
        most = chosen("MAX_LIMIT", most)
        return Options(
            algorithm,
            chosen("INITIAL_LIMIT", initial),
            min(chosen("MIN_LIMIT", least), most),
            most,
            chosen("MAX_QUEUE", max_queue),
            chosen("QUEUE_TARGET", target),
            chosen("QUEUE_INTERVAL", interval),
        )

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; the limit stays where it is, within new bounds, and calls keep their places."""
        # No time is known here; none is late at the beginning of time, so nobody who waits is turned away for it.
        self.limiter.change(self._options(settings, service), now=0.0)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        options = self.limiter.options
        shown = options.algorithm if isinstance(options.algorithm, str) else type(options.algorithm).__name__
        partitions = {level.name: share for level, share in self.partitions.items()}
        return {
            "algorithm": shown,
            "initial": options.initial,
            "min_limit": options.least,
            "max_limit": options.most,
            "max_queue": self.limiter.max_queue,
            "queue_target": options.target,
            "queue_interval": options.interval,
            **({"partitions": partitions} if partitions else {}),
        }

    def worst_case(self, inner: Cost) -> Cost:
        """The wait for a place comes on top."""
        return inner._replace(seconds=inner.seconds + self.limiter.longest_wait)

    def snapshot(self) -> AdaptiveSnapshot:
        """The limit now."""
        places = self.limiter.places
        return AdaptiveSnapshot(places.limit, places.active, len(places.waiting), dict(self.counts.rejected))

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline; the limit is shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        site.saturation.append(self.limiter.is_full)
        kind = PartitionedGuard if self.partitions else AdaptiveGuard
        return kind(self, site)


def _check_algorithm(algorithm: object) -> None:
    if algorithm is None or (isinstance(algorithm, str) and algorithm in ALGORITHMS):
        return
    if isinstance(algorithm, (str, type)) or not all(
        hasattr(algorithm, name) for name in ("limit", "update", "bound")
    ):
        known = ", ".join(map(repr, ALGORITHMS))
        raise ConfigurationError(
            f"AdaptiveLimit: algorithm={algorithm!r} must be one of {known}, or have limit, update and bound"
        )


def _check_limits(initial: int | None, least: int | None, most: int | None) -> None:
    for label, value in (("initial", initial), ("min_limit", least), ("max_limit", most)):
        checked_count("AdaptiveLimit", label, value, 1)
    given = [value for value in (least, initial, most) if value is not None]
    if given != sorted(given):
        raise ConfigurationError(
            f"AdaptiveLimit: min_limit={least!r} <= initial={initial!r} <= max_limit={most!r} must hold"
        )


def _checked_shares(partitions: Mapping[Criticality, float]) -> dict[Criticality, float]:
    shares: dict[Criticality, float] = {}
    for level, share in partitions.items():
        known = isinstance(level, Criticality)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not known or not 0 < share <= 1:
            raise ConfigurationError(
                f"AdaptiveLimit: partitions={dict(partitions)!r} must give levels of Criticality parts in (0, 1]"
            )
        shares[level] = float(share)
    if math.fsum(shares.values()) > 1:
        raise ConfigurationError(
            f"AdaptiveLimit: partitions={dict(partitions)!r} guarantee more than the whole"
        )
    return shares
