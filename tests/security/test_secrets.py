"""No secret leaves the server: not in its logs, metrics and spans, not in what it tells callers or operators.

Every secret is set to a value that can be recognised, services answer by repeating what they were sent (as providers
do: "Incorrect API key provided: sk-..."), and everything is driven through success and failure.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from redis.asyncio import Redis

from mcp_server_langgraph.resilience import config
from mcp_server_langgraph.resilience.integrations.opentelemetry import events_on_spans
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.protocol import build_server
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import load
from tests.server.running import RunningServer, clean_environment, running_server
from tests.server.test_services import MODEL
from tests.support.http_server import HttpServer, Request, Response
from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_server import OpenFGAServer
from tests.support.redis_server import RedisServer
from tests.support.spans import collected_spans

MARK = "SENTINEL"
PROMPT = f"remember that my PIN is {MARK}-prompt"


class Parrot(HttpServer):
    """Refuses, and repeats what it was sent: the headers, the query and the body."""

    async def handle(self, request: Request) -> Response:
        told = f"{request.headers} {request.query} {request.body.decode(errors='replace')}"
        error = {"message": f"Incorrect API key provided: {told}", "type": "server_error", "code": 500}
        return Response({"error": error, "status": "error", "errorType": "internal"}, 500)


class World:
    """The services, with a secret for each."""

    def __init__(self, folder: Path) -> None:
        self.parrot, self.keycloak = Parrot(), KeycloakServer()
        self.openfga, self.redis = OpenFGAServer(MODEL), RedisServer(folder / "redis")
        self.openfga.grant("user:alice", "can_chat", "service:agent")
        self.openfga.grant("user:local-dev", "can_chat", "service:agent")

    @contextlib.contextmanager
    def running(self) -> Iterator[World]:
        with contextlib.ExitStack() as started:
            for service in (self.parrot, self.keycloak, self.openfga, self.redis):
                started.callback(service.stop)
                service.start()
            yield self

    async def lock(self) -> None:
        async with Redis.from_url(self.redis.url) as client:
            await client.config_set("requirepass", f"{MARK}-redis")

    def fail(self) -> None:
        self.keycloak.fail(500, f"{MARK}-from-keycloak")
        self.openfga.fail(500, f"{MARK}-from-openfga")
        self.redis.kill()

    def settings(self) -> dict[str, str]:
        names = ("OPENAI", "ANTHROPIC", "GOOGLE")
        host = self.parrot.url.removeprefix("http://")
        return {
            "LLM_PROVIDER": "openai",
            "LLM_FALLBACK_MODELS": "anthropic:m,google:m,mine:m,offline",
            "LLM_ENDPOINTS": f"mine={self.parrot.url}/mine/v1",
            "LLM_API_KEYS": f"mine={MARK}-mine",
            **{f"{name}_API_KEY": f"{MARK}-{name.lower()}" for name in names},
            **{f"{name}_BASE_URL": f"{self.parrot.url}/{name.lower()}" for name in names},
            "REDIS_URL": self.redis.url.replace("redis://", f"redis://:{MARK}-redis@"),
            "KEYCLOAK_URL": self.keycloak.url,
            "KEYCLOAK_REALM": self.keycloak.realm,
            "KEYCLOAK_AUDIENCE": "mcp-server",
            "KEYCLOAK_CLIENT_ID": "mcp-server",
            "KEYCLOAK_CLIENT_SECRET": f"{MARK}-keycloak",
            "OPENFGA_API_URL": self.openfga.url,
            "OPENFGA_STORE_ID": self.openfga.store_id,
            "OPENFGA_API_TOKEN": f"{MARK}-openfga",
            "PROMETHEUS_URL": f"http://reader:{MARK}-prometheus@{host}",
            "RETRY_STOP_AFTER_ATTEMPT": "1",
            "LOG_LEVEL": "DEBUG",
        }


@contextlib.asynccontextmanager
async def as_caller(server: RunningServer, token: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=200) as http,
        Client(streamable_http_client(server.url, http_client=http)) as client,
    ):
        yield client


async def answer_to(asked: Awaitable[Any]) -> str:
    """What came, or why it did not."""
    try:
        return str(await asked)
    except MCPError as error:
        return f"{error} {error.error}"


async def told_to_a_caller(client: Client) -> str:
    """All that a caller can get, also by mistakes. What it said itself is left out."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("agent_chat", {"message": PROMPT}),
        ("agent_chat", {"message": "metrics: what is `up`?"}),
        ("agent_chat", {"message": "hello", "conversation_id": "not-there"}),
        ("conversation_get", {"conversation_id": "not-there"}),
        ("conversation_search", {"query": "PIN", "limit": 1000}),
        ("resilience_status", {}),
        ("sla_report", {}),
    ]
    told = [await answer_to(client.call_tool(name, arguments)) for name, arguments in calls]
    uris = ("settings://current", "resilience://breakers")
    told += [await answer_to(client.read_resource(uri)) for uri in uris]
    return "\n".join(told).replace(f"{MARK}-prompt", "")


def models_of(provider: str) -> dict[str, str]:
    """One provider for each test: their SDKs take seconds to import."""
    return {"LLM_PROVIDER": provider, "LLM_FALLBACK_MODELS": "offline"}


def secrets_in(text: str) -> list[str]:
    """Where they stand, with a little of what is around."""
    places = [place for place in range(len(text)) if text.startswith(MARK, place)]
    return [text[max(0, place - 80) : place + 40] for place in places]


@pytest.mark.real_time(limit=480)
@pytest.mark.parametrize(("form", "provider"), [("json", "openai"), ("text", "anthropic")])
async def test_a_server_driven_through_success_and_failure_tells_none(
    tmp_path: Path, form: str, provider: str
) -> None:
    with World(tmp_path).running() as world:
        await world.lock()
        token = world.keycloak.token(sub="alice", note=f"{MARK}-claim")
        variables = {**world.settings(), **models_of(provider), "LOG_FORMAT": form}
        with running_server(tmp_path, **variables) as server:
            told = await _told_by(server, token)
            world.fail()
            told += await _told_by(server, token)
            told += str([server.get(path).text for path in ("/metrics", "/health/ready", "/health/startup")])
            log = server._log.read_text()
    assert len(log) > 1000
    assert secrets_in(told) == []
    assert secrets_in(log) == []
    for text in (told, log):
        assert token not in text
        assert token.rpartition(".")[2] not in text


async def _told_by(server: RunningServer, token: str) -> str:
    """What callers hear with a good token and with one that was bent."""
    async with as_caller(server, token) as client:
        told = await told_to_a_caller(client)
    for wrong in (f"{token}x", f"{MARK}-token", f"a.{MARK}.c"):
        refused = httpx2.post(
            server.url, content=f"{MARK}-prompt", headers={"authorization": f"Bearer {wrong}"}, timeout=200
        )
        told += refused.text + str(refused.headers)
    return told


@pytest.mark.parametrize("command", ["settings", "doctor", "sla"])
def test_the_commands_print_none(tmp_path: Path, command: str) -> None:
    with Parrot() as parrot:
        world = World(tmp_path)
        world.parrot.port = parrot.port
        done = subprocess.run(
            [sys.executable, "-m", "mcp_server_langgraph.cli", command],
            capture_output=True,
            text=True,
            timeout=300,
            env=clean_environment(world.settings()),
            check=False,
        )
    assert done.stdout + done.stderr
    assert secrets_in(done.stdout + done.stderr) == []


@pytest.mark.parametrize(
    "wrong",
    ["REDIS_URL", "KEYCLOAK_URL", "PROMETHEUS_URL", "LLM_ENDPOINTS", "LLM_API_KEYS", "OPENFGA_API_TOKEN"],
)
def test_settings_that_are_wrong_are_named_and_not_repeated(wrong: str) -> None:
    values = {wrong: f"ftp://user:{MARK}@host/x"}
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server_langgraph.cli", "settings"],
        capture_output=True,
        text=True,
        timeout=300,
        env=clean_environment(values),
        check=False,
    )
    assert done.returncode == 2
    assert wrong in done.stderr
    assert secrets_in(done.stdout + done.stderr) == []


@pytest.mark.real_time(limit=480)
async def test_spans_and_metrics_hold_none(tmp_path: Path) -> None:
    metrics = ServerMetrics()
    with contextlib.ExitStack() as undo:
        exporter = undo.enter_context(collected_spans())
        undo.callback(events_on_spans())
        world = undo.enter_context(World(tmp_path).running())
        await world.lock()
        settings, resilience = load({**world.settings(), **models_of("google")})
        config.install(resilience)
        wired = wire(settings)
        wired.services.start()
        try:
            server = await build_server(wired.services, Lifecycle(), metrics)
            async with Client(server) as client:
                await told_to_a_caller(client)
                world.fail()
                await told_to_a_caller(client)
        finally:
            await wired.services.aclose()
        spans = json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()])
    assert "tools/call" in spans
    assert secrets_in(spans) == []
    assert secrets_in(metrics.render().decode()) == []
