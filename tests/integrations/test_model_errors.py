"""What the errors of providers mean, on the shapes that their SDKs raise."""

from typing import Any

import httpx2
import pytest
from langchain_core import exceptions as core
from langchain_core.exceptions import ContextOverflowError

from mcp_server_langgraph.resilience import CircuitOpen, Outcome, RateLimited, StreamInterrupted, TimedOut
from mcp_server_langgraph.resilience.integrations.langchain import (
    GarbledAnswer,
    ModelClassifier,
    TruncatedAnswer,
    reason,
)

first_of_two = ModelClassifier(last=False)
last = ModelClassifier(last=True)


class StatusError(Exception):
    """The shape of openai's and anthropic's errors."""

    def __init__(
        self, status_code: int, body: Any = None, headers: dict[str, str] | None = None, **facts: Any
    ) -> None:
        super().__init__(f"Error code: {status_code}")
        self.status_code = status_code
        self.body = body
        self.message = facts.pop("message", "")
        request = httpx2.Request("POST", "http://model.test")
        self.response = httpx2.Response(status_code, headers=headers, request=request)
        self.__dict__.update(facts)


class APITimeoutError(Exception):
    """The shape of an SDK's timeout, which is no TimeoutError."""


class GoogleError(Exception):
    """The shape of google-genai's errors."""

    def __init__(self, code: int, status: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(f"{code} {status}")
        self.code = code
        self.status = status
        self.details = {"error": {"code": code, "status": status, "details": details or []}}


def wrapped(cause: Exception) -> Exception:
    """As langchain-google-genai raises: a new error without status, from the SDK's."""
    wrapper = RuntimeError("Error calling model")
    wrapper.__cause__ = cause
    return wrapper


@pytest.mark.parametrize("status", [503, 529, 408, 504])
def test_an_overloaded_or_slow_model_is_left_for_the_next_one_and_retried_only_as_the_last(
    status: int,
) -> None:
    error = StatusError(status)
    assert first_of_two(error) == (Outcome.FAILURE, False, None, True)
    assert last(error) == (Outcome.FAILURE, True, None, True)


@pytest.mark.parametrize("error", [APITimeoutError(), TimeoutError(), TimedOut("llm.x", 30.0, "attempt")])
def test_timeouts_of_every_kind_go_to_the_next_model(error: Exception) -> None:
    assert first_of_two(error) == (Outcome.FAILURE, False, None, True)
    assert last(error).retryable


def test_a_server_error_is_retried_on_the_same_model_first() -> None:
    assert first_of_two(StatusError(500)) == (Outcome.FAILURE, True, None, True)


def test_a_rate_limit_says_nothing_of_the_models_health_and_carries_its_retry_after() -> None:
    error = StatusError(429, headers={"retry-after": "7"})
    assert first_of_two(error) == (Outcome.NEUTRAL, False, 7.0, True)
    assert last(error) == (Outcome.NEUTRAL, True, 7.0, True)


def test_a_google_rate_limit_is_read_from_what_it_was_raised_from() -> None:
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "13s"}
    error = wrapped(GoogleError(429, "RESOURCE_EXHAUSTED", [delay]))
    assert last(error) == (Outcome.NEUTRAL, True, 13.0, True)


def test_googles_daily_quota_is_not_waited_for() -> None:
    failure = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    assert last(wrapped(GoogleError(429, "RESOURCE_EXHAUSTED", [failure]))) == (
        Outcome.NEUTRAL,
        False,
        None,
        True,
    )


@pytest.mark.parametrize(
    "error",
    [
        StatusError(429, {"code": "insufficient_quota"}, code="insufficient_quota"),
        StatusError(429, {"error": {"type": "insufficient_quota"}}),
        StatusError(402),
        StatusError(400, message="Your credit balance is too low to access the API."),
    ],
)
def test_an_exhausted_quota_is_not_retried_but_another_model_may_answer(error: Exception) -> None:
    assert last(error) == (Outcome.NEUTRAL, False, None, True)


def test_a_model_that_does_not_exist_is_not_retried_but_another_may_answer() -> None:
    assert last(StatusError(404)) == (Outcome.NEUTRAL, False, None, True)
    assert last(wrapped(GoogleError(404, "NOT_FOUND"))) == (Outcome.NEUTRAL, False, None, True)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_what_the_caller_did_wrong_is_neither_retried_nor_answered_by_another_model(status: int) -> None:
    for error in (StatusError(status), wrapped(GoogleError(status, "X"))):
        assert last(error)[:2] == (Outcome.NEUTRAL, False)
        assert not last(error).unavailable


def test_a_question_too_long_is_the_callers_matter_whatever_the_status() -> None:
    class Overflow(StatusError, ContextOverflowError):
        pass

    for error in (
        Overflow(400),
        Overflow(500),
        StatusError(500, {"error": {"code": "context_length_exceeded"}}),
    ):
        assert last(error) == (Outcome.NEUTRAL, False, None, False)


def test_an_error_event_within_a_stream_is_known_by_its_type() -> None:
    overloaded = StatusError(200, {"type": "error", "error": {"type": "overloaded_error"}})
    limited = StatusError(200, {"type": "error", "error": {"type": "rate_limit_error"}})
    broken = StatusError(200, {"error": {"type": "server_error"}})
    assert first_of_two(overloaded) == (Outcome.FAILURE, False, None, True)
    assert first_of_two(limited) == (Outcome.NEUTRAL, False, None, True)
    assert first_of_two(broken) == (Outcome.FAILURE, True, None, True)


@pytest.mark.parametrize("error", [TruncatedAnswer("m"), GarbledAnswer("m"), ConnectionResetError()])
def test_lost_cut_and_garbled_answers_are_failures_that_a_new_attempt_may_cure(error: Exception) -> None:
    assert first_of_two(error) == (Outcome.FAILURE, True, None, True)


def test_a_bug_is_neither_retried_nor_answered_by_another_model() -> None:
    assert last(KeyError("x")) == (Outcome.NEUTRAL, False, None, False)


def test_the_layers_own_refusals_let_another_model_answer_only_where_the_model_is_to_be_left_alone() -> None:
    assert last(CircuitOpen("m", 3.0)).unavailable
    assert last(RateLimited("m", 3.0)) == (Outcome.NEUTRAL, False, 3.0, True)


def test_an_interrupted_stream_is_judged_by_what_interrupted_it_and_not_retried() -> None:
    interrupted = StreamInterrupted("m", ["a"], 1)
    interrupted.__cause__ = TruncatedAnswer("m")
    assert last(interrupted) == (Outcome.FAILURE, False, None, True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (StatusError(529), "overloaded (529)"),
        (StatusError(429), "rate limited (429)"),
        (StatusError(404), "model not found (404)"),
        (StatusError(500), "answered 500"),
        (StatusError(429, code="insufficient_quota"), "quota exhausted (429)"),
        (APITimeoutError(), "timed out"),
        (TimedOut("x", 30.0), "no answer within 30 s"),
        (CircuitOpen("x"), "its circuit is open"),
        (wrapped(GoogleError(503, "UNAVAILABLE")), "overloaded (503)"),
        (ConnectionResetError("secret"), "ConnectionResetError"),
    ],
)
def test_the_reason_is_told_in_words_that_hold_nothing_of_the_answer(error: Exception, words: str) -> None:
    assert reason(error) == words


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (core.ModelAuthenticationError(), (Outcome.NEUTRAL, False, None, False)),
        (core.ModelInvalidRequestError(), (Outcome.NEUTRAL, False, None, False)),
        (core.ModelNotFoundError(), (Outcome.NEUTRAL, False, None, True)),
        (core.ModelRateLimitError(), (Outcome.NEUTRAL, True, None, True)),
        (core.ModelAPIError(), (Outcome.FAILURE, True, None, True)),
        (core.ModelConnectionError(), (Outcome.FAILURE, True, None, True)),
        (core.ModelTimeoutError(), (Outcome.FAILURE, True, None, True)),
    ],
)
def test_an_error_that_keeps_its_status_to_itself_is_known_by_langchains_type(
    error: Exception, verdict: tuple[object, ...]
) -> None:
    assert last(error) == verdict


def test_a_providers_own_word_says_more_than_langchains_type() -> None:
    class Limited(core.ModelAPIError):
        type = "rate_limit_error"

    assert last(Limited()) == (Outcome.NEUTRAL, True, None, True)


def test_what_a_library_calls_a_code_in_a_lost_connection_is_no_status() -> None:
    class TransferEncodingError(Exception):
        code = 400

    lost = ConnectionResetError()
    lost.__cause__ = TransferEncodingError()
    assert last(lost) == (Outcome.FAILURE, True, None, True)
