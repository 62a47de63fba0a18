"""One classifier for breaker, retry and fallback."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from mcp_server_langgraph.resilience import CircuitOpen, Outcome, RetriesExhausted, TimedOut, classify
from mcp_server_langgraph.resilience._http_facts import retry_after_of


def with_status(status: int, headers: dict[str, str] | None = None) -> Exception:
    class ServiceError(Exception):
        response = SimpleNamespace(status_code=status, headers=headers or {})

    return ServiceError()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_client_errors_are_neutral_and_not_retried(status: int) -> None:
    assert classify(with_status(status)) == (Outcome.NEUTRAL, False, None, False)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
def test_server_errors_are_failures_that_may_be_retried_and_fallen_back_from(status: int) -> None:
    assert classify(with_status(status)) == (Outcome.FAILURE, True, None, True)


def test_429_is_neutral_retryable_and_not_unavailability() -> None:
    verdict = classify(with_status(429, {"retry-after": "7"}))
    assert verdict == (Outcome.NEUTRAL, True, 7.0, False)


@pytest.mark.parametrize(
    "bug", [TypeError(), AttributeError(), KeyError("k"), ValueError(), ZeroDivisionError(), AssertionError()]
)
def test_bugs_are_neutral(bug: Exception) -> None:
    assert classify(bug) == (Outcome.NEUTRAL, False, None, False)


@pytest.mark.parametrize(
    "stop", [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt(), SystemExit()]
)
def test_cancellation_is_neutral(stop: BaseException) -> None:
    assert classify(stop) == (Outcome.NEUTRAL, False, None, False)


@pytest.mark.parametrize(
    "exc",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OSError(101, "Network is unreachable"),
        EOFError(),
        asyncio.IncompleteReadError(b"", 3),
        json.JSONDecodeError("no", "<html>", 0),
    ],
    ids=lambda exc: f"{type(exc).__module__.partition('.')[0]}.{type(exc).__name__}",
)
def test_no_usable_answer_is_unavailability(exc: Exception) -> None:
    assert classify(exc) == (Outcome.FAILURE, True, None, True)


def test_a_local_file_problem_is_the_programs_own() -> None:
    assert classify(FileNotFoundError()).outcome is Outcome.NEUTRAL


def test_what_nobody_knows_is_a_failure_but_not_unavailability() -> None:
    class Odd(Exception):
        pass

    assert classify(Odd()) == (Outcome.FAILURE, True, None, False)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": formatdate(1_000_010, usegmt=True)}, 10.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({"retry-after": "-4"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    exc = SimpleNamespace(response=SimpleNamespace(status_code=429, headers=headers))
    assert retry_after_of(exc, wall_now=1_000_000.0) == seconds


def test_attributes_that_raise_do_no_harm() -> None:
    class Awkward(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("not set")

    assert classify(Awkward()).outcome is Outcome.FAILURE


def test_our_own_errors() -> None:
    assert classify(CircuitOpen("x", 3.0)) == (Outcome.NEUTRAL, False, 3.0, True)
    assert classify(TimedOut("x", 1.0)) == (Outcome.FAILURE, True, None, True)
    assert classify(TimedOut("x", 1.0, "inherited")).outcome is Outcome.NEUTRAL
    exhausted = RetriesExhausted("x", 3, 1.0)
    exhausted.__cause__ = ConnectionError()
    assert classify(exhausted) == (Outcome.FAILURE, False, None, True)


def test_a_type_whose_instances_may_carry_a_response_is_judged_each_time() -> None:
    class Sometimes(Exception):
        response: object = None

    plain, refused = Sometimes(), Sometimes()
    refused.response = SimpleNamespace(status_code=400, headers={})
    assert classify(plain).outcome is Outcome.FAILURE
    assert classify(refused).outcome is Outcome.NEUTRAL


@pytest.mark.parametrize(
    ("headers", "retryable"),
    [
        ({"x-should-retry": "false"}, False),
        ({"X-Should-Retry": "False"}, False),
        ({"x-should-retry": "true"}, True),
        ({"grpc-retry-pushback-ms": "-1"}, False),
        ({"grpc-retry-pushback-ms": "soon"}, False),
        ({"grpc-retry-pushback-ms": "250"}, True),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_who_says_that_it_wants_no_retry_is_taken_at_its_word(
    status: int, headers: dict[str, str], retryable: bool
) -> None:
    verdict = classify(with_status(status, headers))
    assert verdict.retryable is retryable
    assert verdict.outcome is classify(with_status(status)).outcome
    assert verdict.retry_after == (
        0.25 if headers.get("grpc-retry-pushback-ms") == "250" else verdict.retry_after
    )


def test_nobody_is_made_retryable_by_a_header() -> None:
    assert not classify(with_status(400, {"x-should-retry": "true"})).retryable


@pytest.mark.parametrize(("pushback", "retryable", "wait"), [("-1", False, 0.0), ("1500", True, 1.5)])
def test_grpc_says_so_in_its_trailing_metadata(pushback: str, retryable: bool, wait: float) -> None:
    class RpcError(Exception):
        def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
            return (("grpc-retry-pushback-ms", pushback),)

    verdict = classify(RpcError())
    assert (verdict.retryable, verdict.retry_after) == (retryable, wait)


@pytest.mark.parametrize("metadata", [None, 3, "text", [("one",)]])
def test_metadata_that_cannot_be_read_does_no_harm(metadata: object) -> None:
    class RpcError(Exception):
        def trailing_metadata(self) -> object:
            return metadata

    assert classify(RpcError()).retryable


class _SaysItByHook(Exception):
    def __getattr__(self, name: str) -> object:
        if name == "status_code":
            return 503
        raise AttributeError(name)


class _SaysItByClass(ValueError):
    status_code = 503


class _SaysItByProperty(ValueError):
    @property
    def response(self) -> object:
        return SimpleNamespace(status_code=503, headers={"retry-after": "7"})


def _with_a_status_of_its_own() -> Exception:
    error = ValueError("no")
    error.status = 503  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error", [_SaysItByHook(), _SaysItByClass(), _SaysItByProperty(), _with_a_status_of_its_own()], ids=repr
)
def test_wherever_an_error_keeps_its_status_it_is_found(error: Exception) -> None:
    assert classify(ValueError()).outcome is Outcome.NEUTRAL
    assert classify(error).outcome is Outcome.FAILURE
    assert classify(error).unavailable
