"""The server's real application in this process, before a stand-in for Keycloak, and what a stranger gets from it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from starlette.types import ASGIApp

from mcp_server_langgraph.server.app import build_app
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.protocol import build_server
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import Settings
from tests.support.keycloak_server import KeycloakServer

__all__ = ["Door", "encoded", "open_door", "token_of_parts"]

_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "stranger", "version": "1"},
    },
}


class Door:
    """Asks the application as a client would."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def knock(
        self,
        token: str | None,
        *,
        scheme: str = "Bearer",
        headers: Sequence[tuple[str, str | bytes]] = (),
        path: str = "/mcp",
    ) -> httpx2.Response:
        """The answer to an `initialize` with this token."""
        sent: list[tuple[str, str | bytes]] = [
            ("accept", "application/json, text/event-stream"),
            *headers,
        ]
        if token is not None:
            sent.append(("authorization", f"{scheme} {token}".encode("utf-8", "surrogatepass")))
        return await self.client.post(path, json=_INITIALIZE, headers=sent)

    async def refuses(self, token: str | None, **options: Any) -> httpx2.Response:
        """The answer, which is a refusal, is one in good order, and says nothing of the token."""
        answer = await self._answered(token, **options)
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.json()["error"] == "invalid_token"
        if token is not None and len(token) > 20:
            assert token not in answer.text
        return answer

    async def admits(self, token: str) -> httpx2.Response:
        """The answer, which lets the token's owner in."""
        answer = await self._answered(token)
        assert answer.status_code == 200, answer.text
        return answer

    async def _answered(self, token: str | None, **options: Any) -> httpx2.Response:
        """Not a 503: on a busy machine the first keys take longer than a caller's patience."""
        async with asyncio.timeout(60):
            while (answer := await self.knock(token, **options)).status_code == 503:
                await asyncio.sleep(0.1)
        return answer

    async def call(self, token: str, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool, in a session of the token's owner."""
        session = {"mcp-session-id": (await self.admits(token)).headers["mcp-session-id"]}
        sent = {
            "accept": "application/json, text/event-stream",
            "authorization": f"Bearer {token}",
            **session,
        }
        started = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await self.client.post("/mcp", json=started, headers=sent)
        params = {"name": tool, "arguments": arguments}
        request = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
        answer = await self.client.post("/mcp", json=request, headers=sent)
        [data] = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")][-1:]
        result: dict[str, Any] = json.loads(data)["result"]
        return result


@asynccontextmanager
async def open_door(keycloak: KeycloakServer, **variables: str) -> AsyncIterator[Door]:
    """The application with its lifespan, for the audience `mcp-server`."""
    settings = Settings.from_env(
        {
            "KEYCLOAK_URL": keycloak.url,
            "KEYCLOAK_REALM": keycloak.realm,
            "KEYCLOAK_AUDIENCE": "mcp-server",
            **variables,
        }
    )
    wired = wire(settings)
    lifecycle, metrics = Lifecycle(), ServerMetrics()
    server = await build_server(wired.services, lifecycle, metrics)
    app = build_app(server, wired.services, lifecycle, metrics, wired.token_check)
    async with (
        _living(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8000", timeout=60
        ) as client,
    ):
        yield Door(client)


@asynccontextmanager
async def _living(app: ASGIApp) -> AsyncIterator[None]:
    """The application's lifespan, in a task of its own as under a server."""
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, orders.get, answers.put))
    await orders.put({"type": "lifespan.startup"})
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await orders.put({"type": "lifespan.shutdown"})
        assert (await answers.get())["type"] == "lifespan.shutdown.complete"
        await task
        await _end_watchers()


async def _end_watchers() -> None:
    """sse-starlette leaves a task behind, which under a server ends with it."""
    watchers = [task for task in asyncio.all_tasks() if "_shutdown_watcher" in repr(task.get_coro())]
    for watcher in watchers:
        watcher.cancel()
    if watchers:
        await asyncio.wait(watchers)


def encoded(part: object) -> str:
    """A part of a token: bytes as they are, else as JSON."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token_of_parts(header: object, claims: object, signature: bytes = b"") -> str:
    """A token of these parts, signed with whatever this is."""
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature) if signature else ''}"
