"""JSON-RPC at /mcp under Hypothesis, in both protocol eras: whatever is sent, an answer comes, and it tells nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.surface import leaks, said, unharmed
from tests.server.running import RunningServer, running_server
from tests.server.test_health import JSON_RPC, META, MODERN

bounded = settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

TOOLS = (
    "agent_chat",
    "conversation_get",
    "conversation_search",
    "resilience_status",
    "sla_report",
    "made_up",
)
METHODS = (
    *("initialize", "ping", "server/discover", "tools/list", "tools/call", "prompts/list", "prompts/get"),
    *(
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "completion/complete",
        "logging/setLevel",
    ),
    *("notifications/initialized", "notifications/cancelled", "made/up", "", "__init__", "rpc.discover"),
)

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ["\x00", "\ud800", "../../etc/passwd", "${jndi:ldap://x}", "'; DROP TABLE x; --", "__proto__"]
    ),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
_MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.one_of(st.just("2.0"), _SCALARS)},
    optional={
        "id": _VALUES,
        "method": st.one_of(st.sampled_from(METHODS), _VALUES),
        "params": st.one_of(_VALUES, st.fixed_dictionaries({"_meta": _VALUES})),
        "result": _VALUES,
        "error": _VALUES,
    },
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("json-rpc")) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with httpx2.Client() as client:
        yield client


@pytest.fixture(scope="module", params=["modern", "legacy"])
def era(request: pytest.FixtureRequest, server: RunningServer) -> dict[str, str]:
    """The headers of a client of that era; in the older one, of a session that exists."""
    if request.param == "modern":
        return dict(MODERN)
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "stranger", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    response = httpx2.post(server.url, json=body, headers=JSON_RPC, timeout=30)
    assert response.status_code == 200
    session = {"mcp-session-id": response.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
    return {**JSON_RPC, **session}


def answered(
    client: httpx2.Client, server: RunningServer, headers: dict[str, str], body: bytes, method: str = "POST"
) -> tuple[int, str]:
    """Send it, and see that the answer tells nothing."""
    status, text = said(client, method, server.url, headers=headers, content=body)
    assert status < 500, (status, text)
    assert leaks(text) is None, leaks(text)
    return status, text


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_whatever_bytes_are_sent_are_answered(
    server: RunningServer, client: httpx2.Client, era: dict[str, str]
) -> None:
    @bounded
    @given(st.one_of(st.binary(max_size=300), _VALUES.map(encoded)))
    def send(body: bytes) -> None:
        answered(client, server, era, body)

    with unharmed(server):
        send()


def test_messages_with_members_of_any_type_are_answered(
    server: RunningServer, client: httpx2.Client, era: dict[str, str]
) -> None:
    @bounded
    @given(_MESSAGES)
    def send(message: dict[str, Any]) -> None:
        method = message.get("method")
        headers = era | ({"mcp-method": method} if method in METHODS and "mcp-session-id" not in era else {})
        answered(client, server, headers, encoded(message))

    with unharmed(server):
        send()


def test_tools_called_with_arguments_of_any_type_are_answered(
    server: RunningServer, client: httpx2.Client, era: dict[str, str]
) -> None:
    names = st.sampled_from(["message", "conversation_id", "query", "limit", "hours", "ctx", "self", ""])

    @bounded
    @given(st.sampled_from(TOOLS), st.one_of(_VALUES, st.dictionaries(names, _VALUES, max_size=4)))
    def send(tool: str, arguments: Any) -> None:
        params = {"name": tool, "arguments": arguments, "_meta": META}
        body = encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = era if "mcp-session-id" in era else era | {"mcp-method": "tools/call", "mcp-name": tool}
        answered(client, server, headers, body)

    with unharmed(server):
        send()


BODIES = {
    "deep list": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "unclosed": b"[" * 1_000_000,
    "huge text": encoded({"jsonrpc": "2.0", "id": 1, "method": "x" * 3_000_000}),
    "huge number": b'{"jsonrpc":"2.0","id":' + b"9" * 100_000 + b',"method":"ping"}',
    "not a number": b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    "infinite": b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}',
    "duplicate keys": b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list","id":2}',
    "surrogate": b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
    "byte order mark": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}',
    "utf-16": '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
    "not utf-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}',
    "batch": encoded([{"jsonrpc": "2.0", "id": n, "method": "ping"} for n in range(1000)]),
    "empty": b"",
    "null": b"null",
    "two messages": b'{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bodies_made_to_hurt_a_parser_are_answered(
    server: RunningServer, client: httpx2.Client, era: dict[str, str], body: bytes
) -> None:
    with unharmed(server):
        answered(client, server, era, body)


def test_content_types_origins_hosts_and_sessions_that_are_wrong_are_refused(
    server: RunningServer, client: httpx2.Client, era: dict[str, str]
) -> None:
    body = encoded({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}})
    wrong = [
        *({"content-type": kind} for kind in ("text/plain", "application/xml", "multipart/form-data", "x")),
        *({"accept": kind} for kind in ("text/html", "image/*", "x")),
        *({"origin": origin} for origin in ("http://evil.example", "null", "file://", "x")),
        *({"host": host} for host in ("evil.example", "127.0.0.1.evil.example", "")),
        *({"mcp-protocol-version": made_up} for made_up in ("1", "9999-99-99", "x" * 4000)),
    ]
    if "mcp-session-id" in era:
        wrong += [{"mcp-session-id": made_up} for made_up in ("0" * 32, "../x", "x" * 4000)]
    right = era | {"mcp-method": "tools/list"}
    with unharmed(server):
        assert answered(client, server, right, body)[0] == 200
        for headers in wrong:
            status, _ = answered(client, server, right | headers, body)
            assert 400 <= status < 500, (headers, status)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_answered_without_a_session(
    server: RunningServer, client: httpx2.Client, method: str
) -> None:
    with unharmed(server):
        status, _ = answered(client, server, dict(JSON_RPC), b"", method)
        assert status != 200 or method in ("HEAD", "OPTIONS")
