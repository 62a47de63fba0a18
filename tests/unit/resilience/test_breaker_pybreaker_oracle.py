"""pybreaker as an oracle: the same calls at the same times give the same states and the same words to listeners."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any
from unittest import mock

import pybreaker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, Pipeline
from mcp_server_langgraph.resilience.testing import run

Trace = list[tuple[Any, ...]]

STEPS = st.lists(st.sampled_from(["ok", "fail", 0.5, 1.0, 4.0]), max_size=40)
BEGINNING = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


class Notes(pybreaker.CircuitBreakerListener):
    """Writes down what it is told."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.trace.append(("before_call", cb.name, cb.state.name, args, kwargs))

    def success(self, cb: Any) -> None:
        self.trace.append(("success", cb.name, cb.current_state))

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.trace.append(("failure", cb.name, type(exc)))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.trace.append(("state_change", cb.name, old_state.name, new_state.name, cb.success_counter))


class Clock(dt.datetime):
    """The wall clock as pybreaker reads it."""

    seconds = 0.0

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return BEGINNING + dt.timedelta(seconds=cls.seconds)


def theirs(steps: list[Any], options: dict[str, int]) -> Trace:
    trace: Trace = []
    breaker = pybreaker.CircuitBreaker(
        options["fail_max"],
        reset_timeout=4,
        success_threshold=options["success_threshold"],
        listeners=[Notes(trace)],
        name="svc",
        throw_new_error_on_trip=False,
    )

    def call(what: str) -> None:
        if what == "fail":
            raise ConnectionError

    with mock.patch.object(pybreaker, "datetime", Clock):
        Clock.seconds = 0.0
        for step in steps:
            if isinstance(step, float):
                Clock.seconds += step
                continue
            try:
                breaker.call(call, step)
            except (ConnectionError, pybreaker.CircuitBreakerError) as exc:
                trace.append(("refused",) if isinstance(exc, pybreaker.CircuitBreakerError) else ("raised",))
            trace.append((breaker.current_state, breaker.state.name == "closed" and breaker.fail_counter))
    return trace


async def ours(steps: list[Any], options: dict[str, int]) -> Trace:
    trace: Trace = []
    breaker = CircuitBreaker("svc", timeout=4, backoff=1, **options, listeners=[Notes(trace)])
    pipeline = Pipeline("svc", breaker)

    async def call(what: str) -> None:
        if what == "fail":
            raise ConnectionError

    for step in steps:
        if isinstance(step, float):
            await asyncio.sleep(step)
            continue
        try:
            await pipeline.call(call, step)
        except (ConnectionError, CircuitOpen) as exc:
            trace.append(("refused",) if isinstance(exc, CircuitOpen) else ("raised",))
        state = breaker.state.replace("_", "-")
        trace.append((state, state == "closed" and breaker.snapshot().consecutive_failures))
    return trace


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    options=st.fixed_dictionaries({"fail_max": st.integers(1, 4), "success_threshold": st.integers(1, 3)}),
)
def test_pybreaker_goes_through_the_same_states_and_tells_the_same(
    steps: list[Any], options: dict[str, int]
) -> None:
    assert run(ours(steps, options)) == theirs(steps, options)


def test_the_oracle_sees_every_state() -> None:
    steps = ["fail", "fail", "ok", 4.0, "ok", "ok", "fail", "fail", 4.0, "fail"]
    trace = theirs(steps, {"fail_max": 2, "success_threshold": 2})
    assert trace == run(ours(steps, {"fail_max": 2, "success_threshold": 2}))
    assert {entry[0] for entry in trace} >= {
        "open",
        "half-open",
        "closed",
        "before_call",
        "state_change",
        "refused",
    }


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
async def test_unlike_pybreaker_an_interrupted_call_is_not_a_failure(error: type[BaseException]) -> None:
    breaker = CircuitBreaker("svc", fail_max=1)

    async def interrupted() -> None:
        raise error

    with pytest.raises(error):
        await Pipeline("svc", breaker).call(interrupted)
    assert (breaker.state, breaker.snapshot().neutral) == ("closed", 1)
