"""tenacity as an oracle: its stop, wait and retry objects, as they are, give the same attempts at the same times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import tenacity as t
import tenacity.asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import Budget, ConfigurationError, Pipeline, Retry
from mcp_server_langgraph.resilience._retry_state import only_exceptions
from mcp_server_langgraph.resilience.testing import run

WORK = 0.25
"""Seconds that an attempt takes, so that no strategy retries for ever at one instant."""

OUTCOMES: dict[str, Callable[[], Exception]] = {
    "down": lambda: ConnectionError("down"),
    "refused": lambda: ConnectionRefusedError("down for long"),
    "bad": lambda: ValueError("bad"),
    "caused": lambda: _caused(),
}


def _caused() -> Exception:
    error = RuntimeError("caused")
    error.__cause__ = TimeoutError()
    return error


class Script:
    """Does what it is told, attempt by attempt; the last word counts for all further attempts."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(asyncio.get_running_loop().time())
        word = self.words[min(len(self.times), len(self.words)) - 1]
        await asyncio.sleep(WORK)
        if word in OUTCOMES:
            raise OUTCOMES[word]()
        return word


async def ours(words: list[str], stop: Any, wait: Any, retry: Any) -> tuple[list[float], str]:
    script = Script(words)
    random.seed(7)
    try:
        policy = Retry(stop=stop, wait=wait, retry=retry, budget=Budget.unlimited())
        return script.times, await Pipeline("svc", policy).call(script)
    except Exception as exc:
        return script.times, repr(exc)


async def theirs(words: list[str], stop: Any, wait: Any, retry: Any) -> tuple[list[float], str]:
    script = Script(words)
    random.seed(7)
    retrying = t.AsyncRetrying(stop=stop, wait=wait, retry=retry, sleep=asyncio.sleep, reraise=True)
    with mock.patch.object(t, "time", SimpleNamespace(monotonic=asyncio.get_running_loop().time)):
        try:
            return script.times, await retrying(script)
        except t.RetryError as exhausted:
            return script.times, exhausted.last_attempt.result()
        except Exception as exc:
            return script.times, repr(exc)


SOME_STOPS = [t.stop_after_attempt(1), t.stop_after_attempt(4), t.stop_after_delay(3), t.stop_before_delay(3)]
STOPS = st.sampled_from(SOME_STOPS) | st.builds(
    lambda kind, one, other: kind(one, other),
    st.sampled_from([t.stop_any, t.stop_all]),
    *[st.sampled_from(SOME_STOPS)] * 2,
)
SOME_WAITS = [
    t.wait_none(),
    t.wait_fixed(1.5),
    t.wait_random(0.5, 2),
    t.wait_incrementing(0.5, 0.5, 2),
    t.wait_exponential(multiplier=0.5, max=3, min=1),
    t.wait_random_exponential(multiplier=0.5, max=4),
    t.wait_exponential_jitter(initial=0.5, max=3),
    t.wait_chain(t.wait_fixed(0.5), t.wait_fixed(1), t.wait_random(1, 2)),
]
WAITS = st.sampled_from(SOME_WAITS) | st.lists(st.sampled_from(SOME_WAITS), min_size=2, max_size=3).map(
    lambda waits: t.wait_combine(*waits)
)
SOME_RETRIES = [
    t.retry_never,
    t.retry_always,
    t.retry_if_exception(lambda exc: "down" in str(exc)),
    t.retry_if_exception_type(OSError),
    t.retry_if_exception_type((ConnectionRefusedError, RuntimeError)),
    t.retry_if_not_exception_type(ValueError),
    t.retry_unless_exception_type(ValueError),
    t.retry_if_exception_cause_type(TimeoutError),
    t.retry_if_exception_message(message="down"),
    t.retry_if_exception_message(match="down.*"),
    t.retry_if_not_exception_message(message="bad"),
    t.retry_if_result(lambda result: result == "wrong"),
    t.retry_if_not_result(lambda result: result == "right"),
]
RETRIES = st.sampled_from(SOME_RETRIES) | st.builds(
    lambda kind, parts: kind(*parts),
    st.sampled_from([t.retry_any, t.retry_all]),
    st.lists(st.sampled_from(SOME_RETRIES), min_size=1, max_size=3),
)
WORDS = st.lists(st.sampled_from([*OUTCOMES, "wrong", "right"]), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(words=WORDS, stop=STOPS, wait=WAITS, retry=RETRIES)
@example(["right"], t.stop_after_attempt(4), t.wait_none(), t.retry_if_not_exception_message(message="bad"))
@example(["right"], t.stop_after_attempt(4), t.wait_none(), t.retry_unless_exception_type(ValueError))
def test_the_same_objects_give_the_same_attempts_at_the_same_times(
    words: list[str], stop: Any, wait: Any, retry: Any
) -> None:
    assert run(ours(words, stop, wait, retry), start=64) == run(theirs(words, stop, wait, retry), start=64)


@settings(max_examples=200, deadline=None)
@given(retry=RETRIES, result=st.sampled_from(["wrong", "right"]))
def test_a_predicate_that_the_success_path_does_not_ask_never_wants_another_result(
    retry: Any, result: str
) -> None:
    state: Any = SimpleNamespace(outcome=t.Future.construct(1, result, False))
    assert not (only_exceptions(retry) and retry(state))


@pytest.mark.parametrize("retry", [SOME_RETRIES[2], SOME_RETRIES[3], t.retry_any(*SOME_RETRIES[2:6])])
def test_for_tenacitys_exception_predicates_the_success_path_asks_nobody(retry: Any) -> None:
    pipeline = Pipeline("svc", Retry(retry=retry))
    assert "judge_result" not in pipeline.source()


def test_a_predicate_of_ones_own_is_asked_about_results() -> None:
    class Own(t.retry_if_exception):
        retries = 3  # not tenacity's: those are parts

        def __call__(self, retry_state: Any) -> bool:
            return not retry_state.outcome.failed and retry_state.outcome.result() == "wrong"

    retry = Own(lambda exc: False)
    stop, wait = t.stop_after_attempt(3), t.wait_none()
    assert not only_exceptions(retry)
    assert run(ours(["wrong", "right"], stop, wait, retry)) == ([0.0, WORK], "right")


def test_plain_functions_do_as_well() -> None:
    seen: list[Any] = []

    def wait(state: Any) -> float:
        seen.append(
            (
                state.attempt_number,
                state.args,
                state.kwargs,
                state.seconds_since_start,
                str(state.outcome.exception()),
            )
        )
        return state.attempt_number

    async def main() -> list[float]:
        script = Script(["down"])

        async def fn(argument: int, *, key: str) -> str:
            return await script()

        retry = Retry(
            stop=lambda state: state.attempt_number == 3, wait=wait, retry=lambda state: state.outcome.failed
        )
        with pytest.raises(ConnectionError):
            await Pipeline("svc", retry).call(fn, 1, key="value")
        return script.times

    assert run(main()) == [0, 1 + WORK, 3 + 2 * WORK]
    assert seen == [
        (number, (1,), {"key": "value"}, time, "down") for number, time in [(1, 0.25), (2, 1.5), (3, 3.75)]
    ]


async def _asynchronous(state: object) -> bool:
    return True


@pytest.mark.parametrize(
    "strategy",
    [_asynchronous, tenacity.asyncio.retry_if_exception(_asynchronous), tenacity.asyncio.retry_any()],
)
@pytest.mark.parametrize("where", ["stop", "wait", "retry"])
def test_asynchronous_strategies_are_refused_when_they_are_given(strategy: Any, where: str) -> None:
    with pytest.raises(ConfigurationError, match="asynchronous"):
        Retry(**{where: strategy})
