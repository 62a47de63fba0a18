"""Retry: what is tried again, and when."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Kind,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    Verdict,
    retry_with_backoff,
)
from mcp_server_langgraph.resilience._machines.backoff import MARGIN
from mcp_server_langgraph.resilience.outcome import Outcome
from mcp_server_langgraph.resilience.testing import run
from tests.support.dependency import Dependency, HTTPError, down


def plain(**options: Any) -> Retry:
    return Retry(jitter="none", **options)


# What is tried again

PERMANENT = [
    *(HTTPError(status) for status in (400, 401, 403, 404, 409, 422, 501)),
    TypeError(),
    ValueError(),
    KeyError(),
]
TEMPORARY = [
    *(HTTPError(status) for status in (408, 429, 500, 502, 503, 504, 529)),
    ConnectionError(),
    TimeoutError(),
]


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
async def test_a_permanent_error_is_one_attempt(error: Exception) -> None:
    dependency = Dependency(*[error] * 9)
    with pytest.raises(type(error)) as caught:
        await Pipeline("svc", plain()).call(dependency)
    assert (caught.value, len(dependency.times)) == (error, 1)
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("error", TEMPORARY, ids=repr)
async def test_a_temporary_error_is_tried_as_often_as_allowed(error: Exception) -> None:
    dependency = Dependency(*[error] * 9)
    with pytest.raises(type(error)) as caught:
        await Pipeline("svc", plain(max_attempts=4)).call(dependency)
    assert (caught.value, dependency.times) == (error, [0, 1, 3, 7])


async def test_our_own_attempt_timeout_is_tried_again() -> None:
    dependency = Dependency(lasts=60)
    with pytest.raises(TimedOut) as caught:
        await Pipeline("svc", plain(), Timeout(5)).call(dependency)
    assert (caught.value.clock, dependency.times) == ("attempt", [0, 6, 13])


@pytest.mark.parametrize(
    ("kind", "attempts"), [(Kind.IDEMPOTENT_READ, 3), (Kind.IDEMPOTENT_WRITE, 3), (Kind.NON_IDEMPOTENT, 1)]
)
async def test_the_kind_of_operation_wins_over_the_kind_of_the_error(kind: Kind, attempts: int) -> None:
    for predicate in (None, lambda state: True):
        dependency = Dependency(*down())
        with pytest.raises(ConnectionError):
            await Pipeline("svc", plain(kind=kind, retry=predicate)).call(dependency)
        assert len(dependency.times) == attempts


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]
)
async def test_cancellation_and_its_like_are_never_tried_again_whatever_a_predicate_says(
    error: BaseException,
) -> None:
    asked = []
    dependency = Dependency(*[error] * 9)
    with pytest.raises(type(error)):
        await Pipeline("svc", plain(retry=lambda state: asked.append(state) is None)).call(dependency)
    assert (len(dependency.times), asked) == (1, [])


async def test_a_task_cancelled_between_two_attempts_ends_there() -> None:
    dependency = Dependency(*down())
    task = asyncio.ensure_future(Pipeline("svc", plain(retry=lambda state: True)).call(dependency))
    await asyncio.sleep(0.5)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (dependency.times, task.cancelled()) == ([0], True)


@pytest.mark.parametrize("rejection", [CircuitOpen("x"), BulkheadFull("x"), DeadlineExceeded("x")])
async def test_the_layers_own_rejections_are_never_offered_to_a_predicate(rejection: Exception) -> None:
    dependency = Dependency(*[rejection] * 9)
    with pytest.raises(type(rejection)):
        await Pipeline("svc", plain(retry=lambda state: True)).call(dependency)
    assert len(dependency.times) == 1


async def test_bad_results_are_tried_again_and_the_last_is_given_back() -> None:
    pipeline = Pipeline("svc", plain(), is_failure=lambda result: result.startswith("bad"))
    dependency = Dependency("bad 1", "bad 2", "good")
    assert await pipeline.call(dependency) == "good"
    dependency = Dependency("bad 1", ConnectionError(), "bad 3", "good")
    assert await pipeline.call(dependency) == "bad 3"


# When


async def test_the_adrs_defaults_are_three_attempts_a_second_and_two_apart() -> None:
    dependency = Dependency(*down())
    with pytest.raises(ConnectionError):
        await Pipeline("svc", plain()).call(dependency)
    assert dependency.times == [0, 1, 3]


async def test_the_adrs_decorator_means_what_it_says() -> None:
    dependency = Dependency(*down())

    @retry_with_backoff(max_attempts=6, exponential_base=3, jitter="none")
    async def guarded() -> None:
        await dependency()

    with pytest.raises(ConnectionError):
        await guarded()
    assert dependency.times == [0, 1, 4, 13, 23, 33]


@settings(max_examples=50, deadline=None)
@given(chance=st.floats(0, 1, exclude_max=True), jitter=st.sampled_from(["full", "equal"]))
def test_jitter_spreads_each_wait_within_its_range(chance: float, jitter: Any) -> None:
    dependency = Dependency(*down())

    async def main() -> None:
        with pytest.raises(ConnectionError):
            await Pipeline("svc", Retry(4, jitter=jitter, chance=lambda: chance)).call(dependency)

    run(main())
    waits = [later - earlier for earlier, later in zip(dependency.times, dependency.times[1:], strict=False)]
    for wait, whole in zip(waits, [1, 2, 4], strict=True):
        expected = whole * chance if jitter == "full" else whole * (1 + chance) / 2
        assert math.isclose(wait, expected, abs_tol=1e-9)


@pytest.mark.parametrize("numbers", [{"multiplier": 1, "base": 2, "wait_max": 3}, {"wait": lambda state: 2}])
async def test_whole_numbers_are_as_good_as_any(numbers: dict[str, Any]) -> None:
    dependency = Dependency(*down(2))
    assert await Pipeline("svc", plain(**numbers)).call(dependency) == "fine"
    assert len(dependency.times) == 3


NOW = 1_700_000_000.0
ASKED = {
    "seconds": HTTPError(503, retry_after="7"),
    "a date": HTTPError(503, retry_after="Tue, 14 Nov 2023 22:13:27 GMT"),
    "milliseconds": HTTPError(429, retry_after_ms="7000"),
    "429": HTTPError(429, retry_after="7"),
    "529": HTTPError(529, retry_after="7"),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_retry_after_is_the_least_that_is_waited(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_server_langgraph.resilience._http_facts.time", SimpleNamespace(time=lambda: NOW))
    dependency = Dependency(ASKED[asked])
    assert await Pipeline("svc", plain()).call(dependency) == "fine"
    assert dependency.times == [0, 7 + MARGIN]


async def test_a_retry_after_shorter_than_our_own_wait_does_not_hurry_us() -> None:
    dependency = Dependency(HTTPError(503, retry_after="1"))
    await Pipeline("svc", plain(multiplier=4)).call(dependency)
    assert dependency.times == [0, 4]


@pytest.mark.parametrize(("asks", "attempts"), [("60", 2), ("61", 1)])
async def test_who_asks_for_too_long_a_wait_is_not_asked_again(asks: str, attempts: int) -> None:
    dependency = Dependency(HTTPError(429, retry_after=asks))
    pipeline = Pipeline("svc", plain())
    if attempts == 1:
        with pytest.raises(HTTPError):
            await pipeline.call(dependency)
    else:
        await pipeline.call(dependency)
    assert len(dependency.times) == attempts


async def test_a_classifier_of_ones_own_may_ask_for_a_wait_in_whole_seconds() -> None:
    dependency = Dependency(LookupError())
    verdict = Verdict(Outcome.FAILURE, retryable=True, retry_after=5)
    await Pipeline("svc", plain(), classifier=lambda exc: verdict).call(dependency)
    assert dependency.times == [0, 5 + MARGIN]


def test_a_plain_function_is_tried_again_too() -> None:
    answers: list[Exception | int] = [ConnectionError(), ConnectionError(), 3]

    @retry_with_backoff(max_attempts=3, multiplier=0)
    def guarded() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert guarded() == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_attempts": 2.5}, "max_attempts=2.5"),
        ({"max_attempts": math.inf}, "max_attempts=inf"),
        ({"multiplier": -1}, "multiplier=-1"),
        ({"wait_max": math.nan}, "wait_max=nan"),
        ({"retry_after_max": -1}, "retry_after_max=-1"),
        ({"base": 0.5}, "base=0.5"),
        ({"jitter": "some"}, "jitter='some'"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Retry(**options)
