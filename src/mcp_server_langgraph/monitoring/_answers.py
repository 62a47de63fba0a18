"""Prometheus' HTTP API: what it answers, as values, and what its errors mean.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (format overview, expression queries).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "BadQuery",
    "PrometheusError",
    "PrometheusRefused",
    "PrometheusUnavailable",
    "QueryResult",
    "QueryTooSlow",
    "Series",
    "error_of",
    "parse",
]

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


class PrometheusError(Exception):
    """Base of what the client raises."""


class BadQuery(PrometheusError, ValueError):
    """The query is at fault (it cannot be parsed, or not be carried out on this data): asking again will not help."""


class QueryTooSlow(PrometheusError, ValueError):
    """The query took longer than it was given. Prometheus itself is well."""


class PrometheusUnavailable(PrometheusError, ConnectionError):
    """Prometheus answered that it cannot, or something that it would not say.

    ``status_code`` is the HTTP status, 502 for an answer that makes no sense. ``retry_after`` is in seconds, if told.
    """

    def __init__(self, message: str, status_code: int = 502, headers: Any = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.headers = headers


class PrometheusRefused(PrometheusError, PermissionError):
    """Prometheus, or a proxy before it, does not serve us: a wrong address, wrong or missing credentials."""


# Told apart by nothing but the message: waiting in the queue is overload, the rest is this query's own cost.
_IN_QUEUE: Final = "query queue"
_QUERY_AT_FAULT: Final = frozenset({"bad_data", "execution"})
_SHOWN: Final = 300
_HISTOGRAMS: Final = frozenset({"histogram", "histograms"})


def error_of(status: int, body: bytes, headers: Any) -> PrometheusError:
    """The exception for an answer with an error status."""
    envelope = _envelope(body)
    kind, message = str(envelope.get("errorType", "")), str(envelope.get("error", ""))[:_SHOWN]
    if kind in _QUERY_AT_FAULT:
        return BadQuery(f"Prometheus cannot answer this query ({kind}): {message}")
    if kind == "timeout" and _IN_QUEUE not in message:
        return QueryTooSlow(f"Prometheus gave the query up: {message}")
    if status >= 500 or status in (408, 429):
        said = f"{kind}: {message}" if kind else "no reason given"
        return PrometheusUnavailable(f"Prometheus answered {status} ({said})", status, headers)
    return PrometheusRefused(
        f"Prometheus answered {status} to a query; check its address and the credentials"
    )


def parse(body: bytes, now: float) -> QueryResult:
    """The result in a 200 answer. ``now`` (unix seconds) dates an answer without data.

    Raises PrometheusUnavailable where the body is not what Prometheus' API would say.
    """
    envelope = _envelope(body)
    data = envelope.get("data")
    try:
        if envelope["status"] != "success" or not isinstance(data, dict):
            raise ValueError
        kind = str(data["resultType"])
        samples = _READERS[kind](data["result"])
        warnings = [str(text) for text in envelope.get("warnings") or ()]
        if kind in ("matrix", "vector") and any(entry.keys() & _HISTOGRAMS for entry in data["result"]):
            warnings.append("native histograms are left out")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise PrometheusUnavailable("the answer is not one of Prometheus' query API") from None
    newest = max((series.points[-1][0] for series in samples if series.points), default=now)
    return QueryResult(kind, samples, as_of=newest, warning="; ".join(warnings) or None)


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return envelope if isinstance(envelope, dict) else {}


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
