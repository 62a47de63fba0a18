"""Resources and prompts of the server."""

from __future__ import annotations

import json
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from pydantic import Field

from mcp_server_langgraph.resilience import config
from mcp_server_langgraph.server.services import Services

__all__ = ["add_prompts", "add_resources"]


def add_resources(server: MCPServer[Any], services: Services) -> None:
    """Register the settings and the breaker states."""

    @server.resource(
        "settings://current", title="Settings in force, without secrets", mime_type="application/json"
    )
    async def current_settings() -> str:
        """The server's settings and the resilience layer's. Secrets read ``(secret)``."""
        return _json({"server": services.settings.public(), "resilience": config.current().as_dict()})

    @server.resource("resilience://breakers", title="Circuit breakers", mime_type="application/json")
    async def breakers() -> str:
        """The state and counts of every circuit breaker."""
        return _json((await services.resilience_status()).breakers)


def add_prompts(server: MCPServer[Any]) -> None:
    """Register the prompts."""

    @server.prompt(title="Diagnose what is degraded")
    def diagnose_degradation() -> str:
        """Find out which services are degraded, why, and what it means for the answers."""
        return (
            "Call resilience_status. For each service whose state is not up or embedded, say in one sentence what is "
            "wrong, what stands in for it, and what that means for my answers. If nothing is degraded, say so."
        )

    @server.prompt(title="Go on with an earlier conversation")
    def continue_conversation(
        topic: Annotated[str, Field(description="What the earlier conversation was about.")],
    ) -> str:
        """Find one of my earlier conversations and go on with it."""
        return (
            f"Search my conversations for {topic!r} with conversation_search, read the best match with "
            "conversation_get, sum it up in three sentences, and pass its conversation_id to agent_chat from now on."
        )

    @server.prompt(title="Explain a metric")
    def explain_metric(
        query: Annotated[str, Field(description="A PromQL expression.")],
        audience: Annotated[str, Field(description="Who should understand it.")] = "an engineer on call",
    ) -> str:
        """Query Prometheus and explain the result."""
        return (
            f"Ask agent_chat for the metrics of `{query}` and explain to {audience} what the values mean. If the "
            "result is stale or Prometheus is not available, say so first."
        )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)
