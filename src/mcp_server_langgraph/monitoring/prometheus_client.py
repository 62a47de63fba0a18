"""Queries to Prometheus that are still answered, and say so, while it is down.

Reads only, so they are retried. A query that is itself at fault is asked once, raises `BadQuery`, and counts for
nothing at the breaker. While Prometheus is unavailable the last answer to the same query is given, marked ``stale``
with its age; where there is none, the error of the attempt is raised.

(Import from here by name: with this folder on the path the module would hide the library ``prometheus_client``.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Final

import httpx2

from mcp_server_langgraph.resilience import (
    Fallback,
    LastGood,
    Outcome,
    Pipeline,
    Rung,
    Verdict,
    classify,
)
from mcp_server_langgraph.resilience.fallback import NOTHING
from mcp_server_langgraph.resilience.integrations.httpx2 import send_deadline

from ._answers import (
    BadQuery,
    PrometheusError,
    PrometheusRefused,
    PrometheusUnavailable,
    QueryResult,
    QueryTooSlow,
    Series,
    error_of,
    parse,
)

__all__ = [
    "BadQuery",
    "PrometheusClient",
    "PrometheusError",
    "PrometheusRefused",
    "PrometheusUnavailable",
    "QueryResult",
    "QueryTooSlow",
    "Series",
]

_CONNECT_TIMEOUT: Final = 2.0
# Proxies cut request lines of some thousand characters; Prometheus takes the same as a form.
_LONGEST_URL_QUERY: Final = 2000
# The part of an attempt's time after which the server itself gives a query up, says so and stops working on it.
_SERVER_HEAD_START: Final = 0.8
# Memory for worse times: so many answers, none with more points than this.
_KEPT_RESULTS: Final = 256
_KEPT_POINTS: Final = 20_000


class PrometheusClient:
    """Asks one Prometheus.

    ``url``: its root, without /api. ``pipeline`` guards the requests. ``attempt_timeout``: seconds that one request may
    take. ``max_age``: seconds for which a last answer may stand in. ``max_bytes``: the largest answer that is read.
    ``clock`` gives unix seconds.
    """

    def __init__(
        self,
        url: str,
        pipeline: Pipeline,
        *,
        attempt_timeout: float = 5.0,
        max_age: float = 3600.0,
        max_bytes: int = 8 << 20,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guarded = pipeline
        last = Rung(_LastResult(max_age, key=_key, max_size=_KEPT_RESULTS), source="last result")
        self._degrading = Pipeline(
            pipeline.name, Fallback(last), operation="query", classifier=_last_result_may_answer
        )
        self._max_bytes = max_bytes
        self._clock = clock
        self._limit = f"{max(1, round(attempt_timeout * _SERVER_HEAD_START * 1000))}ms"
        timeout = httpx2.Timeout(attempt_timeout, connect=min(_CONNECT_TIMEOUT, attempt_timeout))
        self._http = httpx2.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1/",
            timeout=timeout,
            event_hooks={"request": [send_deadline]},
        )

    async def query(self, promql: str, at: float | None = None) -> QueryResult:
        """Evaluate ``promql`` at the moment ``at`` (unix seconds; None: now).

        Raises BadQuery, QueryTooSlow, and while Prometheus is unavailable what the last attempt raised.
        """
        form = {"query": promql} if at is None else {"query": promql, "time": f"{at:.3f}"}
        return await self._degrading.call(self._ask, "query", form, (promql, at))

    async def query_range(self, promql: str, start: float, end: float, step: float) -> QueryResult:
        """Evaluate ``promql`` every ``step`` seconds from ``start`` to ``end`` (unix seconds). Raises as `query` does.

        A window that ends now may be answered, while Prometheus is down, by an earlier one of the same length.
        """
        if not (end >= start and step > 0):
            raise BadQuery("a range needs start <= end and step > 0")
        rolling = end >= self._clock() - step
        key = (promql, end - start, step) if rolling else (promql, start, end, step)
        form = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return await self._degrading.call(self._ask, "query_range", form, key)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(self, endpoint: str, form: dict[str, str], key: Hashable) -> QueryResult:
        return await self._guarded.call(self._fetch, endpoint, form)

    async def _fetch(self, endpoint: str, form: dict[str, str]) -> QueryResult:
        limited = {**form, "timeout": self._limit}
        if len(form["query"]) > _LONGEST_URL_QUERY:
            request = self._http.build_request("POST", endpoint, data=limited)
        else:
            request = self._http.build_request("GET", endpoint, params=limited)
        response = await self._http.send(request, stream=True)
        try:
            body = await self._read(response)
        finally:
            await response.aclose()
        if response.status_code != 200:
            raise error_of(response.status_code, body, response.headers)
        return parse(body, self._clock())

    async def _read(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                raise BadQuery(
                    f"the answer is larger than {self._max_bytes} bytes; ask for less, or a longer step"
                )
        return bytes(body)


class _LastResult(LastGood):
    """The last answer to the same query, marked as what it is."""

    def remember(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], result: QueryResult, now: float
    ) -> None:
        if sum(len(series.points) for series in result.samples) <= _KEPT_POINTS:
            super().remember(args, kwargs, result, now)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = self.recall(args, kwargs, asyncio.get_running_loop().time())
        if known is None:
            return NOTHING
        age, result = known
        stale = f"stale: Prometheus gives no answer now, these data are {age:.0f} s old"
        warning = stale if result.warning is None else f"{stale}; {result.warning}"
        return replace(result, age_seconds=age, stale=True, warning=warning)


def _key(endpoint: str, form: dict[str, str], key: Hashable) -> Hashable:
    return endpoint, key


def _last_result_may_answer(exc: BaseException) -> Verdict:
    """As the layer judges it, and also for a query that was too slow: load may have made it so."""
    if isinstance(exc, QueryTooSlow):
        return Verdict(Outcome.NEUTRAL, unavailable=True)
    return classify(exc)
