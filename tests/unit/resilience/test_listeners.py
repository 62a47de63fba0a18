"""pybreaker's listeners on our breaker, and our metrics listener on pybreaker's."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import aiobreaker
import pybreaker
import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Retry,
    StreamInterrupted,
    circuit_breaker,
    registry,
)
from mcp_server_langgraph.resilience.metrics import CircuitBreakerMetricsListener


class Plain:
    """Not a subclass of anything, and only some of the methods."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append(("before_call", func.__name__, args, kwargs))

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.told.append((cb.name, old_state.name, new_state.name, repr(new_state)))


class Full(pybreaker.CircuitBreakerListener):
    """Everything but ``before_call``, so that calls need no general form."""

    made: ClassVar[list[Full]] = []

    def __init__(self) -> None:
        self.told: list[str] = []
        self.made.append(self)

    def success(self, cb: Any) -> None:
        self.told.append("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self.told.append(f"failure {exc} {cb.fail_counter}/{cb.fail_max}, {cb.reset_timeout:g} s")


class Raising(pybreaker.CircuitBreakerListener):
    """Breaks whenever it is told something."""

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("before_call")

    def success(self, cb: Any) -> None:
        raise RuntimeError("success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        raise RuntimeError("failure")

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        raise RuntimeError("state_change")


async def fine(*args: object, **kwargs: object) -> str:
    return "fine"


async def down(*args: object, **kwargs: object) -> str:
    raise ConnectionError("down")


async def test_a_plain_object_is_told_of_calls_and_states_with_pybreakers_arguments() -> None:
    listener = Plain()
    pipeline = Pipeline("svc", CircuitBreaker("svc", fail_max=1, timeout=5, listeners=[listener]))
    assert await pipeline.call(fine, 1, key="value") == "fine"
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert listener.told == [
        ("before_call", "fine", (1,), {"key": "value"}),
        ("before_call", "down", (), {}),
        ("svc", "closed", "open", "<state open>"),
    ]


async def test_a_refused_call_is_not_announced() -> None:
    listener = Plain()
    breaker = CircuitBreaker("svc", listeners=[listener])
    breaker.force_open()
    listener.told.clear()
    with pytest.raises(CircuitOpen):
        await Pipeline("svc", breaker).call(fine)
    assert listener.told == []


async def test_each_attempt_inside_a_retry_is_announced() -> None:
    listener = Plain()
    pipeline = Pipeline("svc", Retry(3, jitter="none"), CircuitBreaker("svc", listeners=[listener]))
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert [each[0] for each in listener.told] == ["before_call"] * 3


async def test_a_subclass_without_before_call_leaves_the_fused_form_alone() -> None:
    listener = Full()
    breaker = CircuitBreaker("svc", fail_max=3, timeout=9, listeners=(listener,))
    pipeline = Pipeline("svc", breaker)
    assert "proceed" not in pipeline.source()
    await pipeline.call(fine)
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert listener.told == ["success", "failure down 1/3, 9 s"]


async def test_manual_states_are_told_by_our_name_for_them() -> None:
    listener = Plain()
    breaker = CircuitBreaker("svc", listeners=[listener])
    breaker.force_open()
    breaker.disable()
    breaker.reset()
    assert [each[1:3] for each in listener.told] == [
        ("closed", "forced_open"),
        ("forced_open", "disabled"),
        ("disabled", "closed"),
    ]


async def test_a_raising_listener_does_no_harm_to_the_call_nor_to_other_listeners(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Full()
    breaker = CircuitBreaker("svc", fail_max=1, listeners=[Raising(), listener])
    pipeline = Pipeline("svc", breaker)
    with caplog.at_level(logging.ERROR):
        assert await pipeline.call(fine) == "fine"
        with pytest.raises(ConnectionError):
            await pipeline.call(down)
    assert breaker.state == "open"
    assert [told.split()[0] for told in listener.told] == ["success", "failure"]
    told = [record.args[-1] for record in caplog.records if record.args and "raised in" in record.msg]
    assert told == ["before_call", "success", "before_call", "failure", "state_change"]


async def test_a_listener_may_act_on_the_breaker_that_tells_it() -> None:
    class Stubborn(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            if new_state.name == "open":
                breaker.disable()

    breaker = CircuitBreaker("svc", fail_max=1, listeners=[Stubborn()])
    with pytest.raises(ConnectionError):
        await Pipeline("svc", breaker).call(down)
    assert breaker.state == "disabled"


def test_a_plain_function_is_announced_too() -> None:
    listener = Plain()

    @circuit_breaker(name="svc", listeners=[listener])
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8
    assert listener.told == [("before_call", "double", (4,), {})]


async def test_a_stream_is_announced_guarded_and_passes_on_what_is_sent() -> None:
    listener = Plain()
    breaker = CircuitBreaker("svc", fail_max=1, listeners=[listener])
    pipeline = Pipeline("svc", breaker)
    closed = []

    async def echo(fail: bool) -> AsyncGenerator[str, str]:
        try:
            heard = yield "first"
            if fail:
                raise ConnectionError
            yield f"heard {heard}"
        finally:
            closed.append(fail)

    source = pipeline.stream(echo, False)
    assert await anext(source) == "first"
    assert await source.asend("hello") == "heard hello"
    assert await anext(source, "end") == "end"
    assert (breaker.snapshot().successes, closed) == (1, [False])

    broken = pipeline.stream(echo, True)
    assert await anext(broken) == "first"
    with pytest.raises(StreamInterrupted):
        await anext(broken)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen):
        await anext(pipeline.stream(echo, False))
    assert [each[0] for each in listener.told] == ["before_call", "before_call", "svc"]


async def test_an_announced_stream_that_is_left_early_is_neutral_and_closed() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, listeners=[Plain()])
    closed = []

    async def endless() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    source = Pipeline("svc", breaker).stream(endless)
    assert await anext(source) == 1
    await source.aclose()
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.neutral, snapshot.successes, closed) == ("closed", 1, 0, [True])


async def test_listeners_come_from_the_settings_by_dotted_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pybreaker, "FullForTest", Full, raising=False)
    Full.made.clear()
    breaker = CircuitBreaker("svc")
    pipeline = Pipeline("svc", breaker)
    registry.reload({"CIRCUIT_BREAKER_LISTENERS": "pybreaker.FullForTest"})
    await pipeline.call(fine)
    registry.reload({})
    await pipeline.call(fine)
    assert [listener.told for listener in Full.made] == [["success"]]


async def test_the_shipped_metrics_listener_adds_nothing_to_a_breaker_that_counts_by_itself() -> None:
    listener = CircuitBreakerMetricsListener()
    breaker = CircuitBreaker("svc", listeners=[listener])
    assert await Pipeline("svc", breaker).call(fine) == "fine"
    assert (breaker.machine.heard, list(listener.samples())) == (False, [])


async def test_a_listener_without_a_success_of_its_own_costs_the_success_path_nothing() -> None:
    class Changes(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None: ...

    class OfAiobreaker(aiobreaker.CircuitBreakerListener):
        def state_change(self, breaker: Any, old: Any, new: Any) -> None: ...

    breakers = [
        CircuitBreaker("svc", listeners=[listener]) for listener in (Changes(), OfAiobreaker(), Full())
    ]
    assert [breaker.machine.heard for breaker in breakers] == [False, False, True]
    assert not any(breaker.listeners.want_calls for breaker in breakers)


async def test_a_listener_of_an_integration_is_told_until_it_is_taken_away_and_changes_no_equality() -> None:
    told = Plain()
    breaker = CircuitBreaker("svc")
    breaker.listeners.attach(told)
    breaker.force_open()
    breaker.listeners.detach(told)
    breaker.reset()
    assert told.told == [("svc", "closed", "forced_open", "<state forced_open>")]
    assert breaker.same_settings(CircuitBreaker("svc"))


def number(name: str, *labels: str) -> object:
    return next(metric.samples.get(labels) for metric in registry.metrics() if metric.name == name)


def test_the_shipped_metrics_listener_brings_pybreakers_numbers_beside_ours() -> None:
    listener = CircuitBreakerMetricsListener()
    registry.add_meter(listener)
    foreign = pybreaker.CircuitBreaker(2, 0, listeners=[listener], name="old", throw_new_error_on_trip=False)

    def call(error: Exception | None = None) -> None:
        if error is not None:
            raise error

    foreign.call(call)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            foreign.call(call, TimeoutError())
    assert number("circuit_breaker_state", "old", "open") == 1
    foreign.call(call)
    assert number("circuit_breaker_success_total", "old") == 2
    assert number("circuit_breaker_failures_total", "old", "TimeoutError") == 2
    assert number("circuit_breaker_state", "old", "closed") == 1
    assert number("circuit_breaker_state", "old", "open") in (0, None)
