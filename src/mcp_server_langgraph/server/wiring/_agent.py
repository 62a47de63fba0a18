"""The agent with its models and tools, built in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_langgraph.auth.session import SessionStore
from mcp_server_langgraph.server.services import AgentLoader
from mcp_server_langgraph.server.status import Dependency

from ._parts import Parts

if TYPE_CHECKING:
    from mcp_server_langgraph.agent.runner import Agent
    from mcp_server_langgraph.agent.tools import MetricsSource
    from mcp_server_langgraph.auth.records import RedisRecords

__all__ = ["agent"]


def agent(
    parts: Parts, sessions: SessionStore, metrics: MetricsSource | None, records: RedisRecords | None = None
) -> AgentLoader:
    """The agent on these sessions and metrics. ``records``: where the steps of turns are kept."""
    settings = parts.settings
    if settings.llm_provider == "offline":
        parts.embedded("llm", "offline model, not a language model")
    else:
        mode = f"{settings.llm_provider}, model {settings.llm_model or 'by default'}"
        models = ", ".join(settings.llm_fallback_models) or "none"
        remembered = (
            "; then an earlier answer to the same question" if settings.llm_cached_answer_seconds else ""
        )
        fallback = f"fallback models: {models}{remembered}"
        parts.dependencies.append(Dependency("llm", mode, fallback))

    async def build() -> Agent:
        from mcp_server_langgraph.agent.runner import Agent
        from mcp_server_langgraph.agent.tools import standard_tools
        from mcp_server_langgraph.llm.factory import create_chat_model
        from mcp_server_langgraph.llm.prices import Prices

        model = create_chat_model(settings)
        parts.closers.append(model.aclose)
        await model.prepare()
        return Agent(
            model,
            standard_tools(sessions, metrics),
            sessions,
            model_name=settings.llm_model or settings.llm_provider,
            max_tool_rounds=settings.llm_max_tool_rounds,
            cost_of=Prices(settings).cost,
            records=records,
        )

    return AgentLoader(build, ["mcp_server_langgraph.agent.runner", "mcp_server_langgraph.llm.factory"])
