"""Health and metrics over HTTP, and what the doors of the server let in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.running import RunningServer, eventually, running_server
from tests.support.ports import HOST, free_port
from tests.support.redis_server import RedisServer

JSON_RPC = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {**JSON_RPC, "mcp-protocol-version": "2026-07-28"}


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
CALL = {**MODERN, "mcp-method": "tools/call", "mcp-name": "made_up"}


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}


def post(server: RunningServer, body: Any, headers: dict[str, str]) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(server.url, content=content, headers=headers, timeout=30)


def test_a_started_server_is_alive_started_and_ready(server: RunningServer) -> None:
    assert server.get("/health/live").json() == {"status": "alive"}
    assert server.get("/health/startup").json() == {"status": "ready"}
    ready = server.get("/health/ready")
    assert ready.status_code == 200
    body = ready.json()
    assert body["status"] == "ready"
    assert body["services"]["llm"] == {"state": "embedded", "mode": "offline model, not a language model"}
    assert body["services"]["redis"]["mode"].startswith("not configured")


def test_metrics_hold_the_layers_numbers_and_the_servers(server: RunningServer) -> None:
    response = server.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    for name in (
        "circuit_breaker_state",
        "http_request_duration_seconds_bucket",
        "http_requests_total",
        "mcp_server_calls_in_flight",
        "mcp_server_operation_duration_seconds",
        "retry_attempts_total",
    ):
        assert f"\n{name}" in response.text or f"TYPE {name}" in response.text, name


def test_an_unknown_path_makes_no_series_of_its_own(server: RunningServer) -> None:
    assert server.get("/no/such/path").status_code == 404
    assert "/no/such/path" not in server.get("/metrics").text


def test_unknown_tools_and_methods_make_no_series_of_their_own(server: RunningServer) -> None:
    post(server, request("tools/call", name="made_up"), CALL)
    post(server, request("made/up"), MODERN | {"mcp-method": "made/up"})
    metrics = server.get("/metrics").text
    assert 'method="unknown"' in metrics
    assert "made_up" not in metrics
    assert "made/up" not in metrics


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", MODERN, -32700),
        (b"[]", MODERN, -32600),
        (b"{", JSON_RPC, -32700),
        ({"jsonrpc": "2.0", "id": 1, "method": 7}, MODERN, -32600),
        (request("no/such"), MODERN | {"mcp-method": "no/such"}, -32601),
        (request("tools/call"), CALL, None),
        (request("tools/call", name="made_up"), CALL, -32602),
    ],
)
def test_a_malformed_request_gets_a_protocol_error_and_no_trace(
    server: RunningServer, body: Any, headers: dict[str, str], code: int | None
) -> None:
    response = post(server, body, headers)
    assert response.status_code < 500
    error = response.json()["error"]
    assert error["code"] == code if code is not None else error["code"] < 0
    assert "Traceback" not in response.text
    assert ".py" not in response.text


def test_a_foreign_host_name_is_refused(server: RunningServer) -> None:
    assert post(server, {}, MODERN | {"host": "evil.example"}).status_code == 421
    assert post(server, {}, MODERN | {"origin": "http://evil.example"}).status_code == 403


def test_no_log_line_holds_what_was_asked(server: RunningServer) -> None:
    body = {"name": "agent_chat", "arguments": {"message": "my secret is swordfish"}, "_meta": META}
    headers = MODERN | {"mcp-method": "tools/call", "mcp-name": "agent_chat"}
    response = post(server, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}, headers)
    assert "swordfish" in response.text
    lines = server.log()
    assert any(
        line["event"] == "mcp request" and line.get("name") == "agent_chat" and line["seconds"] >= 0
        for line in lines
    )
    assert "swordfish" not in json.dumps(lines)
    assert "swordfish" not in server.get("/metrics").text


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose Redis and Prometheus do not exist."""
    nobody = f"{HOST}:{free_port()}"
    with running_server(
        tmp_path, REDIS_URL=f"redis://{nobody}", PROMETHEUS_URL=f"http://{nobody}"
    ) as running:
        yield running


@pytest.mark.real_time
async def test_a_dead_dependency_with_a_fallback_degrades_readiness_and_does_not_end_it(
    alone: RunningServer,
) -> None:
    await eventually(lambda: alone.ready()["status"] == "degraded")
    ready = alone.get("/health/ready")
    assert ready.status_code == 200
    redis = ready.json()["services"]["redis"]
    assert redis["state"] == "degraded"
    assert redis["reachable"] is False
    assert "memory" in redis["degraded_mode"]
    assert ready.json()["services"]["prometheus"]["state"] == "degraded"


@pytest.mark.real_time(limit=240)
async def test_a_stopped_redis_that_still_accepts_connections_degrades_readiness(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis, running_server(tmp_path, REDIS_URL=redis.url) as server:
        await eventually(lambda: server.ready()["services"]["redis"]["state"] == "up")
        redis.pause()
        try:
            await eventually(lambda: server.ready()["services"]["redis"]["reachable"] is False)
        finally:
            redis.resume()
        await eventually(lambda: server.ready()["services"]["redis"]["state"] == "up")
