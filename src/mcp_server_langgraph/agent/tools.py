"""The tools that the agent has."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field

from mcp_server_langgraph.agent.calculator import CalculationError, calculate
from mcp_server_langgraph.agent.metrics_tools import MetricsSource, metrics_tools
from mcp_server_langgraph.agent.tool import AgentTool, ToolFailed
from mcp_server_langgraph.auth.session import SessionError, SessionStore

__all__ = ["AgentTool", "MetricsSource", "ToolFailed", "standard_tools"]


class _NoFurther(BaseModel, extra="forbid"):
    pass


class _Expression(_NoFurther):
    expression: str = Field(description="Arithmetic such as (2 + 3) * 4, 2 ** 10 or sqrt(2).")


class _Zone(_NoFurther):
    timezone: str = Field("UTC", description="IANA time zone such as Europe/Paris.")


class _Search(_NoFurther):
    query: str = Field(min_length=1, max_length=500, description="Words to look for.")
    limit: int = Field(5, ge=1, le=20, description="Most messages to return.")


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

    return (
        AgentTool(
            "calculator", "Calculate an arithmetic expression exactly.", _Expression, _calculator, own=True
        ),
        AgentTool("current_time", "The current date and time.", _Zone, _current_time, own=True),
        AgentTool(
            "conversation_search",
            "Search the user's own earlier conversations.",
            _Search,
            conversation_search,
            own=True,
        ),
        *metrics_tools(metrics),
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


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
