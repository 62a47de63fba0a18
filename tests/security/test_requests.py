"""Ways around the check of tokens: where else a token is put, how it is announced, whose session it is used in."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcp_server_langgraph.server.logs import JsonFormatter
from tests.security.door import open_door
from tests.support.keycloak_server import KeycloakServer
from tests.support.spans import collected_spans

pytestmark = pytest.mark.real_time


async def test_no_token_is_no_way_in(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak) as door:
        await door.refuses(None)


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "bearer_token"])
async def test_a_token_in_the_query_is_ignored(keycloak: KeycloakServer, name: str) -> None:
    async with open_door(keycloak) as door:
        await door.refuses(None, path=f"/mcp?{name}={keycloak.token()}")


@pytest.mark.parametrize(
    "name",
    [
        *("cookie", "x-access-token", "x-forwarded-access-token", "x-auth-token", "proxy-authorization"),
        *("x-authorization", "x-original-authorization", "x-forwarded-user", "x-remote-user", "dpop"),
    ],
)
async def test_a_token_in_another_header_is_ignored(keycloak: KeycloakServer, name: str) -> None:
    token = keycloak.token()
    async with open_door(keycloak) as door:
        for value in (token, f"Bearer {token}", f"access_token={token}", "alice"):
            await door.refuses(None, headers=[(name, value)])


@pytest.mark.parametrize(
    "scheme",
    [
        "Basic",
        "Token",
        "DPoP",
        "JWT",
        "",
        "Bearer:",
        "Bearer,",
        "bearer\t",
        "XBearer",
        "Bearer Bearer",
        "MAC",
    ],
)
async def test_another_scheme_is_no_way_in(keycloak: KeycloakServer, scheme: str) -> None:
    async with open_door(keycloak) as door:
        await door.refuses(keycloak.token(), scheme=scheme)


async def test_two_authorization_headers_are_refused_whichever_comes_first(keycloak: KeycloakServer) -> None:
    good, bad = f"Bearer {keycloak.token()}", "Bearer made-up"
    async with open_door(keycloak) as door:
        for values in ((good, bad), (bad, good), (good, good)):
            await door.refuses(None, headers=[("authorization", value) for value in values])


async def test_two_tokens_in_one_header_are_refused(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    async with open_door(keycloak) as door:
        for text in (f"{token} {token}", f"{token},{token}", f"{token}, Bearer {token}", f"{token}\x0b"):
            await door.refuses(text)


@pytest.mark.parametrize(
    "path", ["/mcp/", "/mcp/x", "/MCP", "//mcp", "/mcp;x", "/health/../mcp", "/.well-known/../mcp"]
)
async def test_another_spelling_of_the_path_leads_past_no_check(keycloak: KeycloakServer, path: str) -> None:
    async with open_door(keycloak) as door:
        assert (await door.knock(None, path=path)).status_code in (401, 404)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD", "TRACE"])
async def test_another_method_leads_past_no_check(keycloak: KeycloakServer, method: str) -> None:
    async with open_door(keycloak) as door:
        answer = await door.client.request(method, "/mcp")
    assert answer.status_code == 401


async def test_one_users_session_is_not_anothers(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak) as door:
        session = (await door.admits(keycloak.token())).headers["mcp-session-id"]
        stranger = keycloak.token(sub="5f0a2f3e-0000-4000-8000-000000000002", preferred_username="bob")
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        sent = {"accept": "application/json, text/event-stream", "mcp-session-id": session}
        for authorization, status in ((f"Bearer {stranger}", 404), (None, 401)):
            headers = sent if authorization is None else {**sent, "authorization": authorization}
            answer = await door.client.post("/mcp", json=listing, headers=headers)
            assert answer.status_code == status
            answer = await door.client.delete("/mcp", headers=headers)
            assert answer.status_code == status


async def test_one_users_conversation_is_not_anothers(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak) as door:
        mine = await door.call(keycloak.token(), "agent_chat", message="my name is Alice")
        known = mine["structuredContent"]["conversation_id"]
        stranger = keycloak.token(sub="5f0a2f3e-0000-4000-8000-000000000002", preferred_username="alice")
        assert (await door.call(stranger, "conversation_get", conversation_id=known))["isError"]
        assert (await door.call(stranger, "agent_chat", message="go on", conversation_id=known))["isError"]
        hits = await door.call(stranger, "conversation_search", query="Alice")
    assert hits["structuredContent"]["hits"] == []


async def test_what_is_open_to_all_says_nothing_of_callers_or_secrets(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    async with open_door(keycloak, KEYCLOAK_CLIENT_SECRET="mcp-server-secret") as door:
        await door.call(token, "agent_chat", message="hello")
        await door.refuses(keycloak.token(exp=1))
        open_to_all = [
            "/health/ready",
            "/health/live",
            "/metrics",
            "/.well-known/oauth-protected-resource/mcp",
        ]
        told = "".join([(await door.client.get(path)).text for path in open_to_all])
        stranger = keycloak.token(sub="bob")
        told += str(await door.call(stranger, "resilience_status"))
    for secret in (token, "mcp-server-secret", "5f0a2f3e", "alice"):
        assert secret not in told


async def test_tokens_and_secrets_are_in_no_log_no_answer_and_no_trace(
    keycloak: KeycloakServer, caplog: pytest.LogCaptureFixture, spans: InMemorySpanExporter
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_server_langgraph")
    good, old = keycloak.token(), keycloak.token(exp=1)
    stranger = keycloak.token(header={"kid": "made-up"})
    told: list[str] = []
    async with open_door(
        keycloak, KEYCLOAK_CLIENT_SECRET="mcp-server-secret", KEYCLOAK_REVOCATION_SECONDS="0"
    ) as door:
        for _ in range(2):
            await door.call(good, "agent_chat", message="hello")
            told += [(await door.knock(token)).text for token in (good, old, stranger, f"{good}x")]
            keycloak.fail(500, {"error": "invalid_grant", "error_description": good})
    formatter = JsonFormatter()
    told += [
        formatter.format(record)
        for record in caplog.records
        if record.name.startswith("mcp_server_langgraph")
    ]
    told += [span.to_json() for span in spans.get_finished_spans()]
    everything = "".join(told)
    assert "token refused" in everything
    for secret in (good, old, stranger, "mcp-server-secret"):
        assert secret not in everything
        assert secret.rpartition(".")[2] not in everything


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is traced while the test runs."""
    with collected_spans() as collected:
        yield collected
