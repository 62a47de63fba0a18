"""The door of /mcp, as an ASGI middleware: who enters, who is sent away, and what they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from mcp_server_langgraph.server.authentication import Authentication, Refused, Unverifiable
from mcp_server_langgraph.server.identity import LOCAL, Caller, caller_of

ALICE = Caller("alice", "test")


class Request:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope


async def knock(
    authorization: str | None, verdict: Caller | Exception = ALICE
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of the answer; the body of one who entered is the caller that the inside sees."""
    sent: list[dict[str, Any]] = []

    async def check(token: str) -> Caller:
        if isinstance(verdict, Exception):
            raise verdict
        assert token == "good"
        return verdict

    async def inside(scope: Scope, _receive: Receive, send: Send) -> None:
        caller = caller_of(Request(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(caller.subject).encode()})

    async def receive() -> Any:
        raise AssertionError("the body is not read at the door")

    async def send(message: Any) -> None:
        sent.append(message)

    door = Authentication(
        inside, check, "https://id.example/realms/demo", lambda _: "https://me.example/metadata"
    )
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    await door({"type": "http", "headers": headers}, receive, send)
    start, body = sent
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, json.loads(body["body"])


@pytest.mark.parametrize("authorization", ["Bearer good", "bearer good", "BEARER  good "])
async def test_a_good_token_enters_as_its_caller(authorization: str) -> None:
    status, _, body = await knock(authorization)
    assert (status, body) == (200, "alice")


async def test_no_token_is_answered_without_an_error_code() -> None:
    status, headers, _ = await knock(None)
    assert status == 401
    assert headers["www-authenticate"] == 'Bearer resource_metadata="https://me.example/metadata"'


async def test_a_bad_token_is_answered_with_the_reason() -> None:
    status, headers, body = await knock("Bearer bad", Refused('it is "bad"\r\nx: y'))
    assert status == 401
    assert 'error="invalid_token"' in headers["www-authenticate"]
    assert "\r" not in headers["www-authenticate"]
    assert headers["www-authenticate"].count('"') == 6
    assert body["error"] == "invalid_token"


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, "1"), (0.2, "1"), (7.4, "8")])
async def test_while_nobody_can_tell_the_answer_is_503_with_a_time(
    retry_after: float | None, seconds: str
) -> None:
    status, headers, _ = await knock("Bearer good", Unverifiable(retry_after))
    assert status == 503
    assert headers["retry-after"] == seconds


async def test_a_bug_of_the_check_lets_nobody_in() -> None:
    with pytest.raises(KeyError):
        await knock("Bearer good", KeyError("bug"))


def test_without_a_request_the_caller_is_the_local_one() -> None:
    assert caller_of(None) is LOCAL
    assert caller_of(Request({"type": "http"})) is LOCAL
