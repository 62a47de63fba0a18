"""The whole server in this process, on a real port, as ``serve`` puts it together; and one call of one of its tools."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from mcp_server_langgraph.resilience import config, registry
from mcp_server_langgraph.server.app import build_app
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.protocol import build_server
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import load
from tests.support.asgi_server import serving

__all__ = ["Call", "Reply", "call_tool", "whole_server"]

_PROTOCOL: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _PROTOCOL,
    "io.modelcontextprotocol/clientInfo": {"name": "faults", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Call:
    """A tool call, and the token of who makes it."""

    tool: str
    arguments: Mapping[str, Any]
    token: str = ""


@dataclass(frozen=True)
class Reply:
    """What a caller got: ``kind`` is "whole", "degraded" or "error". ``why``: for a degraded one each service and what
    stood in for it, for an error its text.
    """

    kind: str
    why: str
    seconds: float
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}" if self.why else self.kind


@contextlib.asynccontextmanager
async def whole_server(variables: Mapping[str, str]) -> AsyncIterator[str]:
    """Serves with these variables, and gives the address of ``/mcp``."""
    registry.reset()
    settings, resilience = load(variables)
    config.install(resilience)
    wired = wire(settings)
    lifecycle, metrics = Lifecycle(), ServerMetrics()
    server = await build_server(wired.services, lifecycle, metrics)
    app = build_app(server, wired.services, lifecycle, metrics, wired.token_check)
    async with serving(app, lifespan="on") as base:
        await wired.services.loader.get()
        yield f"{base}/mcp"


async def call_tool(http: httpx2.AsyncClient, url: str, call: Call) -> Reply:
    """Make the call as an MCP client does: one POST."""
    params = {"name": call.tool, "arguments": call.arguments, "_meta": _META}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": _PROTOCOL,
        "mcp-method": "tools/call",
        "mcp-name": call.tool,
        **({"authorization": f"Bearer {call.token}"} if call.token else {}),
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    began = time.perf_counter()
    response = await http.post(url, json=message, headers=headers)
    return _reply(response, time.perf_counter() - began)


def _reply(response: httpx2.Response, seconds: float) -> Reply:
    answer = _json(response)
    if response.status_code != 200 or "result" not in answer:
        again = response.headers.get("retry-after")
        error = answer.get("error_description") or answer.get("error", {}).get("message", response.text)
        told = f"{response.status_code} {error}" + (", with Retry-After" if again else "")
        return Reply("error", told, seconds, answer)
    result = answer["result"]
    if result.get("isError"):
        return Reply("error", _told(result["content"][0]["text"]), seconds, answer)
    body = result["structuredContent"]
    stood_in = sorted({f"{each['service']} by {each['source']}" for each in body["degraded_reasons"]})
    return Reply("degraded" if body["degraded"] else "whole", "; ".join(stood_in), seconds, body)


def _told(error: str) -> str:
    """An error without what differs from run to run: the type of the exception, and the exact wait."""
    text = error.removeprefix("Error executing tool ").partition(": ")[2] or error
    text = re.sub(r" \((\w+|status \d+)((?:; retry after [^)]*)?)\)", r"\2", text)  # openfga's cause
    text = re.sub(r" \(\w+:\w+: .*?\)(?=$|;)", "", text)  # each model's
    return re.sub(r"; retry after [^)]*", ", retry after a wait", text)


def _json(response: httpx2.Response) -> dict[str, Any]:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        data = [line[5:] for line in response.text.splitlines() if line.startswith("data:")]
        return dict(json.loads(data[-1]))
    try:
        return dict(json.loads(response.content))
    except ValueError:
        return {}
