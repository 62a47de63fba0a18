"""The server with its services: identities, permissions and sessions, and what happens when they fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.server.running import RunningServer, chat, chat_until_whole, eventually, running_server, text_of
from tests.support.http_server import Fault, Response
from tests.support.keycloak_server import KeycloakServer, SigningKey
from tests.support.openfga_server import OpenFGAServer
from tests.support.redis_server import RedisServer

MODEL: dict[str, Any] = {
    "schema_version": "1.1",
    "type_definitions": [
        {"type": "user"},
        {
            "type": "service",
            "relations": {"can_chat": {"this": {}}},
            "metadata": {"relations": {"can_chat": {"directly_related_user_types": [{"type": "user"}]}}},
        },
    ],
}


@pytest.fixture(scope="module")
def keycloak() -> Iterator[KeycloakServer]:
    server = KeycloakServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def openfga() -> Iterator[OpenFGAServer]:
    server = OpenFGAServer(MODEL)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(
    keycloak: KeycloakServer, openfga: OpenFGAServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that asks for tokens and permissions."""
    for user in ("alice", "bob"):
        openfga.grant(f"user:{user}", "can_chat", "service:agent")
    with running_server(
        tmp_path_factory.mktemp("guarded"), **keycloak_settings(keycloak), **openfga_settings(openfga)
    ) as running:
        yield running


def keycloak_settings(keycloak: KeycloakServer) -> dict[str, str]:
    return {"KEYCLOAK_URL": keycloak.url, "KEYCLOAK_REALM": keycloak.realm, "KEYCLOAK_AUDIENCE": "mcp-server"}


def openfga_settings(openfga: OpenFGAServer) -> dict[str, str]:
    return {"OPENFGA_API_URL": openfga.url, "OPENFGA_STORE_ID": openfga.store_id}


@contextlib.asynccontextmanager
async def client_of(server: RunningServer, token: str, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(server.url, http_client=http), mode=mode) as client,
    ):
        yield client


def knock(server: RunningServer, **headers: str) -> httpx2.Response:
    return httpx2.post(
        server.url, content=b"{}", headers={"content-type": "application/json", **headers}, timeout=30
    )


def test_without_a_token_nobody_enters_and_the_way_to_one_is_told(
    guarded: RunningServer, keycloak: KeycloakServer
) -> None:
    refused = knock(guarded)
    assert refused.status_code == 401
    challenge = refused.headers["www-authenticate"]
    assert challenge.startswith("Bearer resource_metadata=")
    metadata = httpx2.get(challenge.split('"')[1], timeout=30).json()
    assert metadata["resource"] == guarded.url
    assert metadata["authorization_servers"] == [keycloak.issuer]


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer nonsense", "Basic YTpi", "nonsense"])
def test_what_is_no_good_token_is_refused(guarded: RunningServer, authorization: str) -> None:
    refused = knock(guarded, authorization=authorization)
    assert refused.status_code == 401
    assert "nonsense" not in refused.text + refused.headers["www-authenticate"]


def test_expired_and_foreign_tokens_are_refused(guarded: RunningServer, keycloak: KeycloakServer) -> None:
    for token in (
        keycloak.token(exp=1),
        keycloak.token(aud="somebody-else"),
        keycloak.token(key=SigningKey()),
        keycloak.token(iss="https://evil.example"),
    ):
        refused = knock(guarded, authorization=f"Bearer {token}")
        assert refused.status_code == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert token not in str(guarded.log())


def test_health_and_metrics_ask_for_no_token(guarded: RunningServer) -> None:
    for path in ("/health/live", "/health/ready", "/health/startup", "/metrics"):
        assert guarded.get(path).status_code == 200


@pytest.mark.real_time
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_conversation_belongs_to_the_tokens_subject(
    guarded: RunningServer, keycloak: KeycloakServer, mode: str
) -> None:
    async with client_of(guarded, keycloak.token(sub="alice"), mode) as alice:
        begun = await chat(alice, "My name is Alice, and I like narwhals.")
        assert "Alice" in (await chat(alice, "What is my name?", begun["conversation_id"]))["answer"]
    async with client_of(guarded, keycloak.token(sub="bob"), mode) as bob:
        stolen = [
            await bob.call_tool("conversation_get", {"conversation_id": begun["conversation_id"]}),
            await bob.call_tool("agent_chat", {"message": "hi", "conversation_id": begun["conversation_id"]}),
        ]
        missing = await bob.call_tool("conversation_get", {"conversation_id": "0" * 32})
        found = await bob.call_tool("conversation_search", {"query": "narwhals"})
        by_agent = await chat(bob, "Search for narwhals")
    assert all(result.is_error for result in stolen)
    same = text_of(missing.content[0]).replace("0" * 32, begun["conversation_id"])
    assert text_of(stolen[0].content[0]) == same
    assert found.structured_content is not None
    assert "I like narwhals" not in str(found.structured_content)
    assert "I like narwhals" not in by_agent["answer"]


@pytest.mark.real_time
async def test_who_may_not_chat_is_told_so(guarded: RunningServer, keycloak: KeycloakServer) -> None:
    async with client_of(guarded, keycloak.token(sub="mallory")) as client:
        refused = await client.call_tool("agent_chat", {"message": "hello"})
    assert refused.is_error
    assert "permission denied: can_chat on service:agent" in text_of(refused.content[0])


@pytest.mark.real_time
async def test_a_session_cannot_be_used_with_another_callers_token(
    guarded: RunningServer, keycloak: KeycloakServer
) -> None:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    headers = {"accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        alice = {"authorization": f"Bearer {keycloak.token(sub='alice')}"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        session = (await http.post(guarded.url, json=body, headers=alice)).headers["mcp-session-id"]
        bob = {"authorization": f"Bearer {keycloak.token(sub='bob')}", "mcp-session-id": session}
        taken = await http.post(
            guarded.url, json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, headers=bob
        )
    assert taken.status_code == 404


@pytest.mark.real_time
async def test_while_openfga_is_down_a_known_permission_stands_and_the_answer_says_so(
    guarded: RunningServer, keycloak: KeycloakServer, openfga: OpenFGAServer
) -> None:
    async with client_of(guarded, keycloak.token(sub="alice")) as alice:
        await chat_until_whole(alice, "hello")
        openfga.stop()
        try:
            answer = await chat(alice, "hello again")
        finally:
            openfga.start()
        (reason,) = answer["degraded_reasons"]
        assert answer["degraded"] is True
        assert reason["service"] == "openfga"
        assert reason["source"] == "last known decision"
        assert reason["age_seconds"] >= 0


@pytest.mark.real_time(limit=180.0)
async def test_while_keycloak_was_never_reached_callers_are_asked_to_come_back(tmp_path: Path) -> None:
    keycloak = KeycloakServer()
    token = keycloak.token()
    with running_server(tmp_path, **keycloak_settings(keycloak)) as server:
        waiting = knock(server, authorization=f"Bearer {token}")
        assert waiting.status_code == 503
        assert int(waiting.headers["retry-after"]) >= 1
        assert server.ready()["services"]["keycloak"]["state"] == "degraded"
        keycloak.start()
        try:
            await eventually(lambda: knock(server, authorization=f"Bearer {token}").status_code == 400)
        finally:
            keycloak.stop()


@pytest.mark.real_time(limit=300.0)
async def test_redis_killed_in_mid_conversation_degrades_the_next_turn_and_loses_nothing(
    tmp_path: Path,
) -> None:
    with RedisServer(tmp_path / "redis") as redis, running_server(tmp_path, REDIS_URL=redis.url) as server:
        async with Client(server.url) as client:
            begun = await chat_until_whole(client, "My name is Ada.")
            conversation_id = begun["conversation_id"]
            assert begun["durable"] is True
            await eventually(lambda: written_back(server))

            redis.kill()
            during = await chat(client, "What is my name?", conversation_id)
            assert "Ada" in during["answer"]
            assert during["durable"] is False
            assert during["degraded"] is True
            assert {reason["service"] for reason in during["degraded_reasons"]} == {"redis"}
            assert "memory" in during["degraded_reasons"][0]["source"]
            assert server.ready()["services"]["redis"]["messages_to_write_back"] == 2

            redis.start()
            await eventually(lambda: written_back(server))

    with redis, running_server(tmp_path, REDIS_URL=redis.url) as other:
        async with Client(other.url) as client:
            async with asyncio.timeout(60):  # in which Redis may be late, but not for ever
                while (whole := await read(client, conversation_id)) is None or not whole["durable"]:
                    pass
            said = [message["content"] for message in whole["messages"]]
            assert said[0::2] == ["My name is Ada.", "What is my name?"]


def written_back(server: RunningServer) -> bool:
    return bool(server.ready()["services"]["redis"]["messages_to_write_back"] == 0)


async def read(client: Client, conversation_id: str) -> dict[str, Any] | None:
    """The conversation; None while nobody can tell."""
    result = await client.call_tool("conversation_get", {"conversation_id": conversation_id})
    return result.structured_content


@pytest.mark.real_time(limit=180.0)
async def test_a_model_that_fails_is_a_clear_error_and_opens_no_door_to_details(tmp_path: Path) -> None:
    from tests.support.http_server import HttpServer

    class Refusing(HttpServer):
        async def handle(self, request: Any) -> Response:
            return Response(
                {"error": {"message": "bad key sk-very-secret", "type": "invalid_request_error"}}, 401
            )

    provider = Refusing()
    provider.start()
    settings = {
        "LLM_PROVIDER": "openai",
        "OPENAI_API_KEY": "sk-very-secret",
        "OPENAI_BASE_URL": f"{provider.url}/v1",
    }
    try:
        with running_server(tmp_path, **settings) as server:
            async with Client(server.url) as client:
                result = await client.call_tool("agent_chat", {"message": "hello"})
            assert result.is_error
            assert "refused the request: answered 401" in text_of(result.content[0])
            provider.fail(Fault("reset"))
            async with Client(server.url) as client:
                result = await client.call_tool("agent_chat", {"message": "hello"})
            assert result.is_error
            assert "no model could answer" in text_of(result.content[0])
            assert "sk-very-secret" not in str(server.log())
    finally:
        provider.stop()
