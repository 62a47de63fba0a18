"""Queries to Prometheus that are still answered, and say so, while it is down.

Reads only, so they are retried. A query that is itself at fault is asked once, raises `BadQuery`, and counts for
nothing at the breaker. While Prometheus is unavailable the last answer to the same query is given, marked ``stale``
with its age; where there is none, the error of the attempt is raised. Whoever has a last answer waits for a new
one not much longer than that one took.

(Import from here by name: with this folder on the path the module would hide the library ``prometheus_client``.)
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

from mcp_server_langgraph.resilience import (
    Fallback,
    LastGood,
    Outcome,
    Pipeline,
    Rung,
    Verdict,
    classify,
    timeout,
)
from mcp_server_langgraph.resilience.fallback import NOTHING

from . import _catalogue
from ._answers import QueryResult, Reader, Series, parse, query_result
from ._catalogue import Alert, Listing, Rule, Target
from ._errors import BadQuery, PrometheusError, PrometheusRefused, PrometheusUnavailable, QueryTooSlow
from ._patience import Patience
from ._wire import Form, Wire

__all__ = [
    "Alert",
    "BadQuery",
    "Listing",
    "Patience",
    "PrometheusClient",
    "PrometheusError",
    "PrometheusRefused",
    "PrometheusUnavailable",
    "QueryResult",
    "QueryTooSlow",
    "Rule",
    "Series",
    "Target",
]

T = TypeVar("T")

# Memory for worse times: so many answers, none with more points than this.
_KEPT_RESULTS: Final = 256
_KEPT_POINTS: Final = 20_000
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class PrometheusClient:
    """Asks one Prometheus.

    ``url``: its root, without /api. ``pipeline`` guards the requests. ``attempt_timeout``: seconds that one request may
    take. ``max_age``: seconds for which a last answer may stand in. ``max_bytes``: the largest answer that is read.
    ``patience``: how long whoever has a last answer waits for a new one. ``clock`` gives unix seconds.

    Every question raises BadQuery, QueryTooSlow, and while Prometheus is unavailable what the last attempt raised.
    """

    def __init__(
        self,
        url: str,
        pipeline: Pipeline,
        *,
        attempt_timeout: float = 5.0,
        max_age: float = 3600.0,
        max_bytes: int = 8 << 20,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guarded = pipeline
        self._last = _LastResult(max_age, key=_key, max_size=_KEPT_RESULTS)
        last = Rung(self._last, source="last result")
        self._degrading = Pipeline(
            pipeline.name, Fallback(last), operation="query", classifier=_last_result_may_answer
        )
        self._patience = patience if patience is not None else Patience()
        self._clock = clock
        self._wire = Wire(url, attempt_timeout, max_bytes)

    async def query(self, promql: str, at: float | None = None) -> QueryResult:
        """Evaluate ``promql`` at the moment ``at`` (unix seconds; None: now)."""
        form = {"query": promql} if at is None else {"query": promql, "time": f"{at:.3f}"}
        return await self._degrading.call(self._ask, "query", form, query_result, (promql, at))

    async def query_range(self, promql: str, start: float, end: float, step: float) -> QueryResult:
        """Evaluate ``promql`` every ``step`` seconds from ``start`` to ``end`` (unix seconds).

        A window that ends now may be answered, while Prometheus is down, by an earlier one of the same length.
        """
        if not (end >= start and step > 0):
            raise BadQuery("a range needs start <= end and step > 0")
        rolling = end >= self._clock() - step
        key = (promql, end - start, step) if rolling else (promql, start, end, step)
        form = {"query": promql, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return await self._degrading.call(self._ask, "query_range", form, query_result, key)

    async def label_names(self, *selectors: str, within: float = 3600.0) -> Listing[str]:
        """Names of the labels of the series that match any of the selectors (none: of all).

        ``within``: seconds before now in which a series must have had data, here and in the next two.
        """
        return await self._listed("labels", selectors, within, _catalogue.names)

    async def label_values(self, name: str, *selectors: str, within: float = 3600.0) -> Listing[str]:
        """Values of a label; those of ``__name__`` are the names of the metrics."""
        if not _LABEL_NAME.fullmatch(name):
            raise BadQuery(f"{name[:100]!r} is no name of a label")
        return await self._listed(f"label/{name}/values", selectors, within, _catalogue.names)

    async def series(self, *selectors: str, within: float = 3600.0) -> Listing[dict[str, str]]:
        """The label sets of the series that match any of the selectors, of which there must be one."""
        if not selectors:
            raise BadQuery("series need a selector")
        return await self._listed("series", selectors, within, _catalogue.label_sets)

    async def alerts(self) -> Listing[Alert]:
        """The alerts that are pending or firing."""
        return await self._degrading.call(self._ask, "alerts", {}, _catalogue.alerts, ())

    async def rules(self, kind: Literal["alert", "record"] | None = None) -> Listing[Rule]:
        """The rules that Prometheus evaluates; only those of one kind, where it is given."""
        form = {} if kind is None else {"type": kind}
        return await self._degrading.call(self._ask, "rules", form, _catalogue.rules, kind)

    async def targets(self) -> Listing[Target]:
        """What Prometheus scrapes, and whether it can."""
        return await self._degrading.call(self._ask, "targets", {"state": "active"}, _catalogue.targets, ())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    async def _listed(
        self, endpoint: str, selectors: tuple[str, ...], within: float, read: Reader[Listing[T]]
    ) -> Listing[T]:
        # A whole number of minutes, so that those who ask at the same time ask the same.
        form: dict[str, str | tuple[str, ...]] = {"start": f"{(self._clock() - within) // 60 * 60:.0f}"}
        if selectors:
            form["match[]"] = selectors
        return await self._degrading.call(self._ask, endpoint, form, read, (selectors, within))

    async def _ask(self, endpoint: str, form: Form, read: Reader[T], key: Hashable) -> T:
        now = asyncio.get_running_loop().time
        async with timeout(self._wait(endpoint, form, read, key), name=self._guarded.name):
            began = now()
            answer: T = await self._guarded.call(self._fetch, endpoint, form, read)
        self._patience.answered(endpoint, form, now() - began)
        return answer

    def _wait(self, endpoint: str, form: Form, *rest: Any) -> float | None:
        """Seconds that a new answer is waited for; None where there is no last one to give instead."""
        now = asyncio.get_running_loop().time()
        if self._guarded.site.bypassed or self._last.recall((endpoint, form, *rest), {}, now) is None:
            return None
        return self._patience.of_call(endpoint, form)

    async def _fetch(self, endpoint: str, form: Form, read: Reader[T]) -> T:
        return parse(await self._wire.ask(endpoint, form), read, self._clock())


class _LastResult(LastGood):
    """The last answer to the same question, marked as what it is."""

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, now: float) -> None:
        if result.size <= _KEPT_POINTS:
            super().remember(args, kwargs, result, now)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        known = self.recall(args, kwargs, asyncio.get_running_loop().time())
        if known is None:
            return NOTHING
        age, result = known
        stale = f"stale: Prometheus gives no answer now, these data are {age:.0f} s old"
        warning = stale if result.warning is None else f"{stale}; {result.warning}"
        return replace(result, age_seconds=age, stale=True, warning=warning)


def _key(endpoint: str, form: Form, read: Reader[Any], key: Hashable) -> Hashable:
    return endpoint, key


def _last_result_may_answer(exc: BaseException) -> Verdict:
    """As the layer judges it, and also for what load has done: a query that was too slow, or one too many."""
    if isinstance(exc, QueryTooSlow):
        return Verdict(Outcome.NEUTRAL, unavailable=True)
    verdict = classify(exc)
    if isinstance(exc, PrometheusUnavailable) and not verdict.unavailable:
        return verdict._replace(unavailable=True)
    return verdict
