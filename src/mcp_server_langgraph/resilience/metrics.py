"""Numbers, kept as plain integers where things happen and read when somebody collects them.

Nothing is pushed: a direct OpenTelemetry ``counter.add`` costs 10 microseconds, our own ``+= 1`` 0.03. A *meter* is
whatever can yield `Sample` values; `collect` merges those of all pipelines and breakers into metric families, and
`integrations.prometheus` gives them to prometheus_client at scrape time.

The names are those of ADR-0030. ``service`` is the name of the breaker or pipeline, ``operation`` the function.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from . import _late
from ._families import FAMILIES, Family

__all__ = [
    "FAMILIES",
    "LATENCY_BOUNDS",
    "CarriedMeter",
    "CircuitBreakerMetricsListener",
    "Family",
    "Histogram",
    "HistogramValue",
    "Meter",
    "Metric",
    "Sample",
    "collect",
]

# Seconds. From well under a cache hit to the LLM timeout of the ADR and twice that.
LATENCY_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)


class HistogramValue(NamedTuple):
    """A histogram at one moment: upper bounds, the count of each bucket (one more than bounds), and the sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class Sample(NamedTuple):
    """One number: the metric's name, the label values in the family's order, and the value."""

    name: str
    labels: tuple[str, ...]
    value: float | HistogramValue


class Meter(Protocol):
    """Anything with numbers."""

    def samples(self) -> Iterable[Sample]:
        """The numbers as they are now."""
        ...


@dataclass(slots=True)
class Metric:
    """A family with its samples, those of equal labels added up."""

    name: str
    family: Family
    samples: dict[tuple[str, ...], float | HistogramValue]


class Histogram:
    """Counts by upper bound (inclusive), in seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def with_those_of(self, other: Histogram) -> HistogramValue:
        """Its values and those of another one with the same bounds, now."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return HistogramValue(self.bounds, counts, self.sum + other.sum)

    def value(self) -> HistogramValue:
        """The histogram now, as a value that no longer changes."""
        return HistogramValue(self.bounds, tuple(self.counts), self.sum)


def collect(meters: Iterable[Meter]) -> list[Metric]:
    """Merge the samples of all meters into families, every family present even where it has no sample yet."""
    metrics = {name: Metric(name, family, {}) for name, family in FAMILIES.items()}
    for meter in meters:
        for name, labels, value in meter.samples():
            samples = metrics[name].samples
            samples[labels] = _plus(samples[labels], value) if labels in samples else value
    return list(metrics.values())


def _plus(left: float | HistogramValue, right: float | HistogramValue) -> float | HistogramValue:
    if isinstance(left, HistogramValue) and isinstance(right, HistogramValue):
        counts = tuple(a + b for a, b in zip(left.counts, right.counts, strict=True))
        return HistogramValue(left.bounds, counts, left.sum + right.sum)
    assert not isinstance(left, HistogramValue)
    assert not isinstance(right, HistogramValue)
    return left + right


class CarriedMeter:
    """What came in too late, or again: counted for the whole process, by service."""

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        for name, service, count in _late.counted():
            yield Sample(name, (service,), count)


class _Named(Protocol):
    @property
    def name(self) -> str | None: ...


class CircuitBreakerMetricsListener:
    """The listener that the ADR names: counts what a breaker does under the ADR's metric names.

    Our own breakers count natively, so on them it costs nothing and adds nothing. Given to a
    ``pybreaker.CircuitBreaker`` it makes that breaker's numbers appear beside ours (register it:
    ``registry.add_meter(listener)``).
    """

    native = True

    def __init__(self) -> None:
        self._success: dict[str, int] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._state: dict[str, str] = {}

    def before_call(self, cb: _Named, func: object, *args: object, **kwargs: object) -> None:
        """pybreaker calls this before each call; nothing is counted here."""

    def success(self, cb: _Named) -> None:
        """Count a success."""
        name = cb.name or "unnamed"
        self._success[name] = self._success.get(name, 0) + 1

    def failure(self, cb: _Named, exc: BaseException) -> None:
        """Count a failure by the type of its error."""
        key = (cb.name or "unnamed", type(exc).__name__)
        self._failures[key] = self._failures.get(key, 0) + 1

    def state_change(self, cb: _Named, old_state: _Named | None, new_state: _Named) -> None:
        """Remember the state; pybreaker spells half_open with a hyphen."""
        self._state[cb.name or "unnamed"] = (new_state.name or "").replace("-", "_")

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        for name, count in self._success.items():
            yield Sample("circuit_breaker_success_total", (name,), count)
        for key, count in self._failures.items():
            yield Sample("circuit_breaker_failures_total", key, count)
        for name, state in self._state.items():
            yield Sample("circuit_breaker_state", (name, state), 1)
