"""The agent's tools for metrics: PromQL now or over a window, and what there is to ask for.

What is said is bounded, because it goes into a model's context: so many lines, so many points of each series, so many
signs of a line. Names and values come from whoever is scraped, so line breaks in them are written out.
"""

from __future__ import annotations

import datetime
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, Field

from mcp_server_langgraph.agent.tool import AgentTool, ToolFailed

if TYPE_CHECKING:
    from mcp_server_langgraph.monitoring.prometheus_client import (
        Alert,
        Listing,
        QueryResult,
        Rule,
        Series,
        Target,
    )

__all__ = ["MetricsSource", "metrics_tools"]

T = TypeVar("T")

MAX_LINES: Final = 50
MAX_POINTS: Final = 20
MAX_SIGNS: Final = 400
"""Of one line."""


class MetricsSource(Protocol):
    """Where metrics are asked for. A question that is itself at fault raises ValueError."""

    async def query(self, promql: str) -> QueryResult: ...
    async def query_range(self, promql: str, start: float, end: float, step: float) -> QueryResult: ...
    async def label_names(self, *selectors: str) -> Listing[str]: ...
    async def label_values(self, name: str, *selectors: str) -> Listing[str]: ...
    async def series(self, *selectors: str) -> Listing[dict[str, str]]: ...
    async def alerts(self) -> Listing[Alert]: ...
    async def rules(self) -> Listing[Rule]: ...
    async def targets(self) -> Listing[Target]: ...


class _Query(BaseModel, extra="forbid"):
    query: str = Field(min_length=1, max_length=2000, description="A PromQL expression.")
    minutes: float | None = Field(
        None,
        gt=0,
        le=44640,
        description=f"None: its value now. Else {MAX_POINTS} values at most over the last so many minutes.",
    )


class _Listed(BaseModel, extra="forbid"):
    what: Literal["metrics", "labels", "label_values", "series", "alerts", "rules", "targets"] = Field(
        description="What to list."
    )
    selector: str | None = Field(
        None,
        max_length=2000,
        description='Only of series that match, such as {job="api"}. Needed for series; not for the last three.',
    )
    label: str | None = Field(None, max_length=200, description="The label whose values are wanted.")


def metrics_tools(metrics: MetricsSource | None) -> tuple[AgentTool, ...]:
    """The tools that ask ``metrics``; None: they say that it is not configured."""

    async def prometheus_query(_owner: str, asked: _Query) -> str:
        result = await _answer(_query(_configured(metrics), asked))
        return _text(map(_series_text, result.samples), len(result.samples), result.warning)

    async def prometheus_list(_owner: str, asked: _Listed) -> str:
        listing = await _answer(_listing(_configured(metrics), asked))
        return _text(map(_item_text, listing.items), len(listing.items), listing.warning)

    return (
        AgentTool(
            "prometheus_query", "Ask Prometheus for metrics, now or over a window.", _Query, prometheus_query
        ),
        AgentTool(
            "prometheus_list",
            "List what Prometheus knows: names of metrics, labels and their values, series; alerts that are pending "
            "or firing, rules, and the targets that it scrapes.",
            _Listed,
            prometheus_list,
        ),
    )


def _configured(metrics: MetricsSource | None) -> MetricsSource:
    if metrics is None:
        raise ToolFailed("Prometheus is not configured on this server (PROMETHEUS_URL).")
    return metrics


async def _answer(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except ValueError as error:
        raise ToolFailed(str(error)) from None


async def _query(metrics: MetricsSource, asked: _Query) -> QueryResult:
    if asked.minutes is None:
        return await metrics.query(asked.query)
    step = math.ceil(asked.minutes * 60 / (MAX_POINTS - 1))
    now = time.time()
    return await metrics.query_range(asked.query, now - (MAX_POINTS - 1) * step, now, step)


async def _listing(metrics: MetricsSource, asked: _Listed) -> Listing[Any]:
    selectors = () if asked.selector is None else (asked.selector,)
    match asked.what:
        case "metrics":
            return await metrics.label_values("__name__", *selectors)
        case "labels":
            return await metrics.label_names(*selectors)
        case "label_values":
            return await metrics.label_values(asked.label or "", *selectors)
        case "series":
            return await metrics.series(*selectors)
        case "alerts":
            return await metrics.alerts()
        case "rules":
            return await metrics.rules()
        case "targets":
            return await metrics.targets()


def _text(lines: Iterable[str], count: int, warning: str | None) -> str:
    said = [_bounded(line) for line in itertools.islice(lines, MAX_LINES)] or ["(no data)"]
    if count > MAX_LINES:
        said.append(f"... and {count - MAX_LINES} more; ask for fewer")
    if warning:
        said.append(_bounded(f"warning: {warning}"))
    return "\n".join(said)


def _bounded(line: str) -> str:
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
    return line if len(line) <= MAX_SIGNS else f"{line[:MAX_SIGNS]}..."


def _series_text(series: Series) -> str:
    points = series.points[-MAX_POINTS:]
    values = " ".join(str(value) for _, value in points)
    if len(points) > 1:
        values += f" (from {_time(points[0][0])} to {_time(points[-1][0])})"
    return f"{_labels_text(series.labels)} {values}"


def _item_text(item: Any) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        return _labels_text(item)
    return _DESCRIBED[type(item).__name__](item)


def _alert_text(alert: Alert) -> str:
    since = f" since {_time(alert.active_at)}" if alert.active_at is not None else ""
    labels = {name: value for name, value in alert.labels.items() if name != "alertname"}
    summary = alert.annotations.get("summary", "")
    return f"{alert.state} {alert.name}{_labels_text(labels)}{since}{': ' if summary else ''}{summary}"


def _rule_text(rule: Rule) -> str:
    state = rule.state or rule.kind
    trouble = f" ({rule.health}: {rule.error})" if rule.health == "err" else ""
    return f"{state} {rule.name}: {rule.query}{trouble}"


def _target_text(target: Target) -> str:
    trouble = f": {target.error}" if target.error else ""
    return f"{target.health} {target.job} {target.instance}{trouble}"


# By name, so that the client of a Prometheus that is not configured is not imported.
_DESCRIBED: Final[dict[str, Callable[[Any], str]]] = {
    "Alert": _alert_text,
    "Rule": _rule_text,
    "Target": _target_text,
}


def _labels_text(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if key != "__name__")
    return f"{labels.get('__name__', '')}{{{pairs}}}"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
