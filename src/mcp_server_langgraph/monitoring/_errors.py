"""What Prometheus' errors mean: which are the query's fault, which are an outage, which say that we are not served."""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "BadQuery",
    "PrometheusError",
    "PrometheusRefused",
    "PrometheusUnavailable",
    "QueryTooSlow",
    "error_of",
]


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


def error_of(status: int, envelope: dict[str, Any], headers: Any) -> PrometheusError:
    """The exception for an answer with an error status. ``envelope``: its body, empty where that is no JSON object."""
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
