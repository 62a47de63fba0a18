"""What the agent can do: a tool is a name, a description for the model, typed arguments and a coroutine."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, ValidationError

from mcp_server_langgraph.agent.calculator import CalculationError, calculate
from mcp_server_langgraph.auth.session import SessionError, SessionStore

if TYPE_CHECKING:
    from mcp_server_langgraph.monitoring.prometheus_client import QueryResult, Series

__all__ = ["AgentTool", "MetricsSource", "ToolFailed", "standard_tools"]

MAX_SAMPLES = 50
MAX_POINTS = 20


class ToolFailed(Exception):
    """The tool cannot do what was asked. The text is for the model."""


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool of the agent. ``call`` gets the owner of the conversation and the validated arguments."""

    name: str
    description: str
    arguments: type[BaseModel]
    call: Callable[[str, Any], Awaitable[str]]

    def spec(self) -> dict[str, Any]:
        """The tool as every provider's ``bind_tools`` takes it (OpenAI's function form)."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}

    async def run(self, owner: str, arguments: dict[str, Any]) -> str:
        """The tool's answer as text. Raises ToolFailed when the arguments are wrong or it cannot be done."""
        try:
            parsed = self.arguments.model_validate(arguments)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ToolFailed(f"wrong arguments: {wrong}") from None
        return await self.call(owner, parsed)


class MetricsSource(Protocol):
    """Where metrics are asked for. A query that is itself at fault raises ValueError."""

    async def query(self, promql: str) -> QueryResult: ...


class _NoFurther(BaseModel, extra="forbid"):
    pass


class _Expression(_NoFurther):
    expression: str = Field(description="Arithmetic such as (2 + 3) * 4, 2 ** 10 or sqrt(2).")


class _Zone(_NoFurther):
    timezone: str = Field("UTC", description="IANA time zone such as Europe/Paris.")


class _Search(_NoFurther):
    query: str = Field(min_length=1, max_length=500, description="Words to look for.")
    limit: int = Field(5, ge=1, le=20, description="Most messages to return.")


class _PromQL(_NoFurther):
    query: str = Field(min_length=1, max_length=2000, description="A PromQL expression, evaluated now.")


def standard_tools(sessions: SessionStore, metrics: MetricsSource | None = None) -> tuple[AgentTool, ...]:
    """Time, calculator, search in the caller's own conversations, and metrics (None: not configured)."""

    async def conversation_search(owner: str, asked: _Search) -> str:
        try:
            hits = await sessions.search(owner, asked.query, asked.limit)
        except SessionError as error:
            raise ToolFailed(str(error)) from None
        if not hits:
            return "No earlier message matches."
        return "\n".join(f"- [{_day(hit.created_at)}] {hit.role}: {hit.snippet}" for hit in hits)

    async def prometheus_query(_owner: str, asked: _PromQL) -> str:
        if metrics is None:
            raise ToolFailed("Prometheus is not configured on this server (PROMETHEUS_URL).")
        try:
            return _metrics_text(await metrics.query(asked.query))
        except ValueError as error:
            raise ToolFailed(str(error)) from None

    return (
        AgentTool("calculator", "Calculate an arithmetic expression exactly.", _Expression, _calculator),
        AgentTool("current_time", "The current date and time.", _Zone, _current_time),
        AgentTool(
            "conversation_search",
            "Search the user's own earlier conversations.",
            _Search,
            conversation_search,
        ),
        AgentTool("prometheus_query", "Ask Prometheus for current metrics.", _PromQL, prometheus_query),
    )


async def _calculator(_owner: str, asked: _Expression) -> str:
    try:
        return str(calculate(asked.expression))
    except CalculationError as error:
        raise ToolFailed(str(error)) from None


async def _current_time(_owner: str, asked: _Zone) -> str:
    try:
        zone = ZoneInfo(asked.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolFailed(f"unknown time zone {asked.timezone!r}") from None
    return datetime.datetime.now(zone).isoformat(timespec="seconds")


def _metrics_text(result: QueryResult) -> str:
    lines = [_series_text(series) for series in result.samples[:MAX_SAMPLES]] or ["(no data)"]
    if len(result.samples) > MAX_SAMPLES:
        lines.append(f"... and {len(result.samples) - MAX_SAMPLES} more series")
    if result.warning:
        lines.append(f"warning: {result.warning}")
    return "\n".join(lines)


def _series_text(series: Series) -> str:
    name = series.labels.get("__name__", "")
    labels = ",".join(f'{key}="{value}"' for key, value in sorted(series.labels.items()) if key != "__name__")
    values = " ".join(str(value) for _, value in series.points[-MAX_POINTS:])
    return f"{name}{{{labels}}} {values}"


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
