"""Which rung of the ladder answers, and what a rung may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitBreaker,
    ConfigurationError,
    Fallback,
    LastGood,
    Pipeline,
    RateLimited,
    Rung,
    TimedOut,
    Timeout,
    Value,
    collect_degradations,
    registry,
    with_fallback,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.clock import now
from tests.unit.resilience.fallback_helpers import answer, raising


async def test_a_rung_may_answer_for_more_and_only_that_rung_does() -> None:
    rungs = (Value("for outages"), Rung(Value("for crowds too"), also=(BulkheadFull,)))
    assert await answer(BulkheadFull("s"), rungs=rungs) == "for crowds too"
    assert await answer(ConnectionError(), rungs=rungs) == "for outages"
    with pytest.raises(RateLimited):
        await answer(RateLimited("s"), rungs=rungs)


async def test_so_may_the_whole_ladder() -> None:
    pipeline = Pipeline("s", Fallback(Value(1), also=(BulkheadFull, RateLimited)))
    assert await pipeline.call(raising(RateLimited("s"))) == 1
    with pytest.raises(TypeError):
        await pipeline.call(raising(TypeError()))


async def test_rungs_are_tried_in_order_with_the_calls_arguments() -> None:
    asked: list[tuple[str, Any, Any]] = []

    async def first(*args: Any, **kwargs: Any) -> str:
        asked.append(("first", args, kwargs))
        raise ConnectionError("too")

    def second(*args: Any, **kwargs: Any) -> str:
        asked.append(("second", args, kwargs))
        raise TypeError("a bug of its own")

    def third(*args: Any, **kwargs: Any) -> str:
        asked.append(("third", args, kwargs))
        return "third"

    failure = ConnectionError()
    pipeline = Pipeline("s", Fallback(first, second, Rung(third, with_error=True), Value("never")))
    with collect_degradations() as notes:
        assert await pipeline.call(raising(failure), 1, x=2) == "third"
    given = ((1,), {"x": 2})
    assert asked == [("first", *given), ("second", *given), ("third", (failure, 1), {"x": 2})]
    assert [note.source.rpartition(".")[2] for note in notes] == ["third"]


async def test_a_rung_may_have_a_breaker_of_its_own_and_is_left_out_while_that_is_open() -> None:
    asked: list[str] = []

    async def second() -> str:
        asked.append("second")
        raise ConnectionError

    breaker = CircuitBreaker("second", fail_max=2)
    ladder = Fallback(Pipeline("second", breaker)(second), Value("third"))
    pipeline = Pipeline("first", ladder, CircuitBreaker("first", fail_max=4))
    answers = [await pipeline.call(raising(ConnectionError())) for _ in range(5)]
    assert (answers, asked) == (["third"] * 5, ["second"] * 2)
    assert {name: each.snapshot().rejected for name, each in registry.breakers().items()} == {
        "first": 1,
        "second": 3,
    }


async def test_where_no_rung_has_an_answer_the_original_error_comes_out() -> None:
    failure = ConnectionError("the real reason")
    ladder = Fallback(raising(TypeError("bug")), raising(ConnectionError()), LastGood(60))
    pipeline = Pipeline("s", ladder)
    with pytest.raises(ConnectionError) as caught:
        await pipeline.call(raising(failure))
    assert caught.value is failure
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert (numbers["fallback_used_total"], numbers["fallback_failed_total"]) == ({}, {("s",): 1})


async def test_cancellation_in_a_rung_stays_cancellation() -> None:
    async def slow() -> None:
        await asyncio.sleep(100)

    task = asyncio.create_task(answer(ConnectionError(), rungs=(slow, Value("never"))))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_our_own_time_ran_out_only_rungs_that_do_not_wait_are_tried() -> None:
    tried: list[str] = []

    async def another_model(*_: Any) -> str:
        tried.append("model")
        return "from another model"

    def quick(*_: Any) -> str:
        tried.append("quick")
        return "quick"

    def slow_though_plain(*_: Any) -> str:
        tried.append("slow")
        return "slow"

    async def at_once(*_: Any) -> str:
        return "at once"

    rungs = (another_model, Rung(slow_though_plain, waits=True), quick, Value("value"))
    pipeline = Pipeline("s", Fallback(*rungs), Timeout(2))
    assert await pipeline.call(asyncio.sleep, 5) == "quick"
    assert (tried, now()) == (["quick"], 2)
    assert (
        await Pipeline("s", Fallback(Rung(at_once, waits=False)), Timeout(2)).call(asyncio.sleep, 5)
        == "at once"
    )
    with pytest.raises(TimedOut):
        await Pipeline("s", Fallback(another_model), Timeout(2)).call(asyncio.sleep, 5)
    assert await answer(TimedOut("s", 1.0, "attempt"), rungs=(another_model,)) == "from another model"
    assert await answer(TimedOut("another pipeline", 1.0), rungs=(another_model,)) == "from another model"


def test_plain_functions_fall_back_to_plain_rungs() -> None:
    failing = True

    @with_fallback(LastGood(60), lambda key: f"no {key}")
    def read(key: str) -> str:
        if failing:
            raise ConnectionError
        return f"good {key}"

    assert read("x") == "no x"
    failing = False
    assert read("x") == "good x"
    failing = True
    assert read("x") == "good x"


def test_a_plain_function_cannot_wait_for_a_rung() -> None:
    async def another() -> str:
        return "x"

    with pytest.raises(
        TypeError, match=r"fallback cannot guard the plain function .*: its rung .* is asynchronous"
    ):

        @with_fallback(another)
        def read() -> str:
            return "x"

    def fail() -> str:
        raise ConnectionError

    with pytest.raises(TypeError, match="awaitable"):
        Pipeline("s", Fallback(lambda: another())).call_sync(fail)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one rung"):
        Fallback()
    with pytest.raises(ConfigurationError, match="'default' is no function; a fixed answer is a Value"):
        Fallback("default")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_age=0 must be above 0"):
        LastGood(0)
    with pytest.raises(ConfigurationError, match="max_size=0 at least 1"):
        LastGood(1, max_size=0)


def test_its_rungs_are_shown_by_name() -> None:
    ladder = Fallback(LastGood(1), Rung(Value(1), source="constant"), raising)
    assert ladder.settings() == {"rungs": ["LastGood", "constant", "raising"]}
