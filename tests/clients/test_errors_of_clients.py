"""The layer understands the errors of the clients it guards, without importing them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import aiohttp
import anthropic
import httpx
import httpx2
import openai
import pytest
import redis.exceptions
from google.genai import errors as genai_errors
from openfga_sdk import exceptions as openfga_exceptions

from mcp_server_langgraph.resilience import Outcome, classify
from mcp_server_langgraph.resilience._http_facts import status_of

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1")


def openai_error(status: int, code: str | None = None, **headers: str) -> openai.APIStatusError:
    response = httpx2.Response(status, request=REQUEST, headers=headers)
    return openai.APIStatusError("no", response=response, body={"code": code} if code else None)


@pytest.mark.parametrize(
    "exc",
    [
        httpx.ConnectError("x"),
        httpx.ReadTimeout("x"),
        httpx2.ReadError("x"),
        httpx2.RemoteProtocolError("x"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        redis.exceptions.ConnectionError(),
        redis.exceptions.TimeoutError(),
        redis.exceptions.BusyLoadingError(),
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(request=REQUEST),
        anthropic.APIConnectionError(request=REQUEST),
    ],
    ids=lambda exc: f"{type(exc).__module__.partition('.')[0]}.{type(exc).__name__}",
)
def test_no_usable_answer_is_unavailability(exc: Exception) -> None:
    assert classify(exc) == (Outcome.FAILURE, True, None, True)


def test_a_wrong_redis_command_is_the_callers_and_a_full_redis_is_not() -> None:
    assert classify(redis.exceptions.ResponseError("WRONGTYPE")).outcome is Outcome.NEUTRAL
    assert classify(redis.exceptions.OutOfMemoryError()).outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    "name", ["WatchError", "DataError", "PubSubError", "CrossSlotTransactionError", "LockError"]
)
def test_what_redis_py_says_of_its_callers_doings_is_neutral(name: str) -> None:
    assert classify(getattr(redis.exceptions, name)("x")).outcome is Outcome.NEUTRAL


def test_a_pool_of_ones_own_that_is_used_up_is_no_fault_of_redis() -> None:
    assert classify(redis.exceptions.MaxConnectionsError()).outcome is Outcome.NEUTRAL
    assert classify(redis.exceptions.ConnectionError()).outcome is Outcome.FAILURE


def test_an_exhausted_quota_is_not_retried() -> None:
    assert not classify(openai_error(429, code="insufficient_quota")).retryable
    assert classify(openai_error(429)).retryable


def test_the_status_is_found_whichever_library_carries_it() -> None:
    assert status_of(openai_error(503)) == 503
    assert (
        status_of(genai_errors.ServerError(503, {"error": {"code": 503, "message": "", "status": "X"}}))
        == 503
    )
    assert status_of(openfga_exceptions.ServiceException(status=502, reason="bad")) == 502
    assert status_of(httpx.HTTPStatusError("x", request=None, response=httpx.Response(500))) == 500  # type: ignore[arg-type]
    assert status_of(ValueError()) is None
    assert status_of(SimpleNamespace(status_code=True, code=7)) is None


def test_googles_retry_delay_is_read_from_the_body() -> None:
    body: dict[str, Any] = {
        "error": {
            "code": 429,
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}],
        }
    }
    exc = genai_errors.ClientError(429, body)
    assert classify(exc).retry_after == 34.0
