"""The service level: which share of the calls was served, how fast, and whether that is what was promised.

Made of histograms: calls by tool (or service) and outcome, each with its latencies. Where those come from is another's
business: `sla_prometheus` asks Prometheus for a window, the server adds up its own counters.

A call counts as an *error* where the server could not serve it. What the caller has to mend (wrong arguments, an
unknown conversation, no permission, its own rate or deadline) was served: it was told so. A call that the caller
cancelled says nothing, and is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = [
    "TARGETS",
    "Group",
    "Level",
    "Measured",
    "ServiceLevel",
    "SlaReport",
    "Targets",
    "quantile",
    "report",
]


@dataclass(frozen=True, slots=True)
class Targets:
    """What is promised (ADR-0030): shares between 0 and 1, times in seconds."""

    availability: float = 0.9999
    error_rate: float = 0.0001
    p95_seconds: float = 0.5


TARGETS: Final = Targets()

_UNCOUNTED: Final = frozenset({"cancelled", "neutral"})
_ERRORS: Final = frozenset({"error", "failure"})


@dataclass(slots=True)
class Group:
    """Calls of one tool or service: how many by outcome, and how many took at most so many seconds (cumulative)."""

    outcomes: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)

    def add(self, outcome: str, calls: float) -> None:
        """Count calls."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0.0) + calls

    def add_bucket(self, bound: float, calls: float) -> None:
        """Count calls that took at most ``bound`` seconds."""
        self.buckets[bound] = self.buckets.get(bound, 0.0) + calls


@dataclass(slots=True)
class Measured:
    """What a report is made of. ``services``: by service and operation.

    ``fallbacks``: calls that a fallback answered, and ``openings``: times that a circuit opened, both by service.
    ``http_errors``: requests that never became a call, because the server answered them 5xx at its door.
    """

    tools: dict[str, Group] = field(default_factory=dict)
    services: dict[tuple[str, str], Group] = field(default_factory=dict)
    fallbacks: dict[str, float] = field(default_factory=dict)
    openings: dict[str, float] = field(default_factory=dict)
    http_errors: float = 0.0
    uptime: float | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """The level of one tool, or of all. ``error_rate`` and ``p95_seconds`` are None where nothing was called."""

    name: str
    calls: int
    errors: int
    error_rate: float | None
    p95_seconds: float | None


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """The level of one operation of a service that this server leans on, by the pipeline that guards it.

    Its failures are not the server's where something stood in. ``p95_seconds`` is that of its successes.
    """

    service: str
    operation: str
    calls: int
    failures: int
    failure_rate: float | None
    p95_seconds: float | None


# Without slots: the MCP SDK takes a class attribute for the default of a field.
@dataclass(frozen=True)
class SlaReport:
    """The service level over a window of seconds that ended at ``as_of`` (unix seconds).

    ``source``: prometheus, or process (the counters of the one process that answered, since it started). ``uptime``:
    share of the scrapes that found the server; None where nobody scrapes. ``availability``: share of the calls that
    were served; None where there were none. ``fallbacks``: answers of what stood in for a service, and ``openings``:
    how often its circuit opened, both by service, where there were any. ``missed``: a sentence for each target that was
    missed; empty: none was. ``note``: what to know about the source.
    """

    source: str
    window_seconds: float
    as_of: float
    uptime: float | None
    availability: float | None
    overall: Level
    tools: tuple[Level, ...]
    services: tuple[ServiceLevel, ...]
    fallbacks: dict[str, int]
    openings: dict[str, int]
    missed: tuple[str, ...]
    targets: Targets
    note: str | None


def report(
    measured: Measured,
    *,
    source: str,
    window: float,
    as_of: float,
    note: str | None = None,
    patient: Iterable[str] = (),
    targets: Targets = TARGETS,
) -> SlaReport:
    """The report on what was measured. ``patient``: tools whose time is a model's, and is not judged."""
    unjudged = frozenset(patient)
    tools = tuple(_level(name, group) for name, group in sorted(measured.tools.items()))
    services = tuple(_service(*key, group) for key, group in sorted(measured.services.items()))
    judged = [group for name, group in measured.tools.items() if name not in unjudged]
    overall = _overall(measured, judged)
    return SlaReport(
        source=source,
        window_seconds=window,
        as_of=as_of,
        uptime=measured.uptime,
        availability=None if overall.error_rate is None else 1 - overall.error_rate,
        overall=overall,
        tools=tools,
        services=services,
        fallbacks=_some(measured.fallbacks),
        openings=_some(measured.openings),
        missed=tuple(_missed(overall, tools, measured.uptime, unjudged, targets)),
        targets=targets,
        note=note,
    )


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The value below which that share of the calls lies, as PromQL's ``histogram_quantile`` finds it; None: no calls.

    Linear inside a bucket; the highest finite bound where it lies beyond.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]] > 0:
        return None
    rank = share * buckets[bounds[-1]]
    low, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (buckets[bound] - below)
        low, below = bound, buckets[bound]
    return low


def _level(name: str, group: Group, more_errors: float = 0.0) -> Level:
    errors = sum(calls for outcome, calls in group.outcomes.items() if outcome in _ERRORS) + more_errors
    calls = sum(calls for outcome, calls in group.outcomes.items() if outcome not in _UNCOUNTED) + more_errors
    rate = errors / calls if calls else None
    return Level(name, round(calls), round(errors), rate, quantile(0.95, group.buckets))


def _overall(measured: Measured, judged: Iterable[Group]) -> Level:
    """All tools together; their time, of those that are judged by it."""
    all_ = Group()
    for group in measured.tools.values():
        for outcome, calls in group.outcomes.items():
            all_.add(outcome, calls)
    for group in judged:
        for bound, calls in group.buckets.items():
            all_.add_bucket(bound, calls)
    return _level("all", all_, measured.http_errors)


def _service(service: str, operation: str, group: Group) -> ServiceLevel:
    level = _level(service, group)
    return ServiceLevel(service, operation, level.calls, level.errors, level.error_rate, level.p95_seconds)


def _some(counts: Mapping[str, float]) -> dict[str, int]:
    return {name: round(count) for name, count in sorted(counts.items()) if round(count)}


def _missed(
    overall: Level,
    tools: Iterable[Level],
    uptime: float | None,
    unjudged: frozenset[str],
    targets: Targets,
) -> Iterable[str]:
    rate = overall.error_rate
    if rate is not None and 1 - rate < targets.availability:
        yield f"availability is {1 - rate:.4%}, promised are {targets.availability:.2%}"
    if rate is not None and rate > targets.error_rate:
        yield f"the error rate is {rate:.4%}, promised are {targets.error_rate:.2%}"
    if uptime is not None and uptime < targets.availability:
        yield f"the server was up for {uptime:.4%}, promised are {targets.availability:.2%}"
    for tool in tools:
        slow = tool.p95_seconds is not None and tool.p95_seconds > targets.p95_seconds
        if slow and tool.name not in unjudged:
            yield f"p95 of {tool.name} is {tool.p95_seconds:.3g} s, promised are {targets.p95_seconds:g} s"
