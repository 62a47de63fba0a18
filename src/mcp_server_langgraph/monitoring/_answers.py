"""What Prometheus' HTTP API answers, as values.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (format overview, expression queries).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ._errors import PrometheusUnavailable

__all__ = ["QueryResult", "Series", "envelope_of", "parse", "query_result"]

T = TypeVar("T")
Point = tuple[float, float | str]


@dataclass(frozen=True, slots=True)
class Series:
    """One time series of an answer: its labels, and (unix seconds, value) pairs in order of time.

    A value is a float (NaN and infinities too), or a str where the answer's ``result_type`` is "string".
    """

    labels: dict[str, str]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query.

    ``result_type``: vector, matrix, scalar or string. ``as_of``: unix seconds that the newest of the data speaks for.
    ``age_seconds``: how long ago Prometheus gave it. ``stale``: it is an earlier answer, given because Prometheus gives
    none now. ``warning``: what to tell whoever reads it (that it is stale; Prometheus' own warnings); None: nothing.
    """

    result_type: str
    samples: tuple[Series, ...]
    as_of: float
    age_seconds: float = 0.0
    stale: bool = False
    warning: str | None = None

    @property
    def size(self) -> int:
        """How many points it holds."""
        return sum(len(series.points) for series in self.samples)


_HISTOGRAMS: Final = frozenset({"histogram", "histograms"})

Reader = Callable[[Any, list[str], float], T]
"""Makes a value of an answer's data, its warnings (more may be added) and the present moment (unix seconds)."""


def parse(body: bytes, read: Reader[T], now: float) -> T:
    """What ``read`` makes of a 200 answer. ``now`` (unix seconds) dates an answer without data.

    Raises PrometheusUnavailable where the body is not what Prometheus' API would say.
    """
    envelope = envelope_of(body)
    try:
        if envelope["status"] != "success":
            raise ValueError
        return read(envelope["data"], [str(text) for text in envelope.get("warnings") or ()], now)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise PrometheusUnavailable("the answer is not one of Prometheus' query API") from None


def envelope_of(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty where there is none."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return envelope if isinstance(envelope, dict) else {}


def query_result(data: Any, warnings: list[str], now: float) -> QueryResult:
    """The reader of an instant or range query's answer."""
    kind = str(data["resultType"])
    samples = _READERS[kind](data["result"])
    if kind in ("matrix", "vector") and any(entry.keys() & _HISTOGRAMS for entry in data["result"]):
        warnings.append("native histograms are left out")
    newest = max((series.points[-1][0] for series in samples if series.points), default=now)
    return QueryResult(kind, samples, as_of=newest, warning="; ".join(warnings) or None)


def _vector(result: Any) -> tuple[Series, ...]:
    return tuple(
        Series(_labels(entry), (_point(entry["value"]),)) for entry in result if "histogram" not in entry
    )


def _matrix(result: Any) -> tuple[Series, ...]:
    return tuple(Series(_labels(entry), tuple(map(_point, entry.get("values", ())))) for entry in result)


def _scalar(result: Any) -> tuple[Series, ...]:
    return (Series({}, (_point(result),)),)


def _string(result: Any) -> tuple[Series, ...]:
    return (Series({}, ((float(result[0]), str(result[1])),)),)


def _labels(entry: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in entry["metric"].items()}


def _point(pair: Any) -> Point:
    moment, value = pair
    return float(moment), float(value)


_READERS: Final = {"matrix": _matrix, "scalar": _scalar, "string": _string, "vector": _vector}
