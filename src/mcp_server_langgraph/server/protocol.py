"""The server as the MCP SDK knows it, the same for every transport."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal, cast

from mcp.server.mcpserver import MCPServer

from mcp_server_langgraph.server.content import add_prompts, add_resources
from mcp_server_langgraph.server.door import Door
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.observing import Observer
from mcp_server_langgraph.server.services import Services
from mcp_server_langgraph.server.sla import ServiceLevels, add_sla_tool
from mcp_server_langgraph.server.tools import add_tools

__all__ = ["NAME", "build_server"]

NAME = "mcp-server-langgraph"
INSTRUCTIONS = (
    "Ask agent_chat. Answers say whether they are degraded and why; resilience_status tells more. "
    "Pass conversation_id to go on with a conversation."
)


async def build_server(services: Services, lifecycle: Lifecycle, metrics: ServerMetrics) -> MCPServer[Any]:
    """The MCP server with its tools, resources and prompts."""
    level = cast(Literal["INFO"], services.settings.log_level)
    names: dict[str, set[str]] = {"tools/call": set(), "prompts/get": set()}
    observer = Observer(lifecycle, metrics, names, Door())
    server: MCPServer[Any] = MCPServer(
        NAME,
        title="LangGraph agent",
        instructions=INSTRUCTIONS,
        version=version(NAME),
        log_level=level,
        middleware=[observer],
    )
    add_tools(server, services)
    add_sla_tool(server, ServiceLevels(metrics, services.prometheus, services.settings.sla_selector or ""))
    add_resources(server, services)
    add_prompts(server)
    names["tools/call"].update(tool.name for tool in await server.list_tools())
    metrics.expect("tools/call", names["tools/call"])
    names["prompts/get"].update(prompt.name for prompt in await server.list_prompts())
    return server
