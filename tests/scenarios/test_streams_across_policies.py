"""Streams through several policies: who acts before the first item, and who is told at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Kind,
    Pipeline,
    RetriesExhausted,
    Retry,
    StreamInterrupted,
    TimedOut,
    Timeout,
    Value,
    circuit_breaker,
    registry,
    retry_with_backoff,
    timeout,
    with_bulkhead,
    with_fallback,
    with_timeout,
)
from mcp_server_langgraph.resilience._stack import pipeline_of
from tests.support.clock import now
from tests.support.streams import Scripted, collect

DOWN = ConnectionError("down")


# Before the first item, and after it


async def test_a_stream_that_breaks_before_its_first_item_is_begun_again() -> None:
    source = Scripted([1, DOWN], [DOWN], [1, "a", "b"])
    pipeline = Pipeline("s", Retry(3, jitter="none"), CircuitBreaker())
    assert await collect(pipeline.stream(source)) == ["a", "b"]
    assert (source.calls, now()) == (3, 1 + 1 + 2 + 1)
    assert pipeline.snapshot()["circuit_breaker"].failures == {"ConnectionError": 2}
    assert pipeline.snapshot()["circuit_breaker"].successes == 1
    attempts = {metric.name: metric.samples for metric in registry.metrics()}
    assert attempts["retry_attempts_total"] == {("s", "1"): 1, ("s", "2"): 1, ("s", "3"): 1}
    assert attempts["retry_success_after_retry_total"] == {("s",): 1}


async def test_after_its_first_item_it_is_not() -> None:
    source = Scripted(["a", 1, "b", DOWN], ["again"])
    pipeline = Pipeline("s", Fallback(Value("instead")), Retry(3), CircuitBreaker())
    got: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        await collect(pipeline.stream(source), got)
    assert got == ["a", "b"]
    assert caught.value.received == ("a", "b")
    assert caught.value.__cause__ is DOWN
    assert source.calls == 1
    assert pipeline.snapshot()["circuit_breaker"].failures == {"ConnectionError": 1}


async def test_an_empty_stream_is_a_stream() -> None:
    source = Scripted([1])
    pipeline = Pipeline("s", Fallback(Value("instead")), Retry(3), CircuitBreaker())
    assert await collect(pipeline.stream(source)) == []
    assert source.calls == 1
    assert pipeline.snapshot()["circuit_breaker"].successes == 1


@pytest.mark.parametrize("error", [TypeError("bug"), KeyError("bug"), asyncio.CancelledError()])
async def test_what_retrying_cannot_cure_is_tried_once(error: BaseException) -> None:
    source = Scripted([error])
    pipeline = Pipeline("s", Fallback(Value("instead")), Retry(3), CircuitBreaker())
    with pytest.raises(type(error)):
        await collect(pipeline.stream(source))
    assert source.calls == 1
    assert pipeline.snapshot()["circuit_breaker"].failures == {}


async def test_the_last_error_comes_out_when_all_attempts_failed() -> None:
    pipeline = Pipeline("s", Retry(2, jitter="none"), CircuitBreaker())
    with pytest.raises(ConnectionError) as caught:
        await collect(pipeline.stream(Scripted([ConnectionError("first")], [DOWN])))
    assert caught.value is DOWN
    assert caught.value.__notes__[-1] == "resilience: 2 attempts in 1 s (s)"
    last = TimeoutError("last")
    with pytest.raises(RetriesExhausted) as exhausted:
        await collect(Pipeline("s", Retry(2, reraise=False)).stream(Scripted([DOWN], [last])))
    assert exhausted.value.__cause__ is last


async def test_an_open_circuit_ends_the_attempts_with_the_dependencys_own_error() -> None:
    source = Scripted([DOWN])
    pipeline = Pipeline("s", Retry(5, jitter="none"), CircuitBreaker(fail_max=2))
    with pytest.raises(ConnectionError):
        await collect(pipeline.stream(source))
    assert source.calls == 2
    with pytest.raises(CircuitOpen):
        await collect(pipeline.stream(source))
    assert source.calls == 2


async def test_all_attempts_carry_the_same_key_and_the_fallback_none() -> None:
    source = Scripted([DOWN])
    asked: list[dict[str, Any]] = []

    async def instead(**given: Any) -> AsyncGenerator[str, None]:
        asked.append(given)
        yield "instead"

    retry = Retry(2, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="key")
    stream = Pipeline("s", Fallback(instead), retry).stream(source, text="x")
    assert await collect(stream) == ["instead"]
    assert source.given[0] == source.given[1]
    assert source.given[0].keys() == {"text", "key"}
    assert asked == [{"text": "x"}]


async def test_an_attempt_that_does_not_begin_in_time_makes_room_for_another() -> None:
    source = Scripted([30, "late"], [1, "a"])
    pipeline = Pipeline(
        "s", Timeout(20), Retry(3, jitter="none"), CircuitBreaker(), Timeout(15, first_item=5)
    )
    assert await collect(pipeline.stream(source)) == ["a"]
    assert now() == 5 + 1 + 1
    assert pipeline.snapshot()["circuit_breaker"].failures == {"TimedOut": 1}


# Outcomes


async def test_the_breaker_hears_of_a_stream_at_its_end() -> None:
    pipeline = Pipeline("s", CircuitBreaker())
    stream = pipeline.stream(Scripted(["a", "b"]))
    await anext(stream)
    assert pipeline.snapshot()["circuit_breaker"].successes == 0
    await collect(stream)
    assert pipeline.snapshot()["circuit_breaker"].successes == 1


async def test_streams_that_break_in_the_middle_open_the_circuit() -> None:
    pipeline = Pipeline("s", CircuitBreaker(fail_max=3))
    for _ in range(3):
        with pytest.raises(StreamInterrupted):
            await collect(pipeline.stream(Scripted(["a", DOWN])))
    assert pipeline.snapshot()["circuit_breaker"].state == "open"


async def test_our_own_time_running_out_is_a_failure_and_the_callers_is_not() -> None:
    def failures(pipeline: Pipeline) -> dict[str, int]:
        return dict(pipeline.snapshot()["circuit_breaker"].failures)

    own = Pipeline("own", Timeout(5), Retry(2), CircuitBreaker())
    for script in ([9], ["a", 9]):
        with pytest.raises((TimedOut, StreamInterrupted)):
            await collect(own.stream(Scripted(script)))
    assert failures(own) == {"TimedOut": 2}
    callers = Pipeline("callers", Timeout(5), Retry(2), CircuitBreaker())
    for script in ([9], ["a", 9]):
        with pytest.raises(TimedOut):
            async with timeout(2):
                await collect(callers.stream(Scripted(script)))
        async with timeout(2):
            child = asyncio.create_task(collect(callers.stream(Scripted(script))))
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(9)
            with pytest.raises(TimedOut, match="inherited"):
                await child
    assert failures(callers) == {}
    assert callers.snapshot()["circuit_breaker"].neutral == 4


# Pipelines inside pipelines, and decorators


async def test_an_interruption_within_is_an_interruption_without() -> None:
    inner, outer = Pipeline("inner", Retry(2)), Pipeline("outer", Retry(2), CircuitBreaker("o"))

    async def upper() -> AsyncGenerator[str, None]:
        async for item in inner.stream(Scripted(["a", DOWN])):
            yield item.upper()

    with pytest.raises(StreamInterrupted) as caught:
        await collect(outer.stream(upper))
    assert (caught.value.pipeline, caught.value.received) == ("outer", ("A",))
    cause = caught.value.__cause__
    assert isinstance(cause, StreamInterrupted)
    assert (cause.pipeline, cause.received, cause.__cause__) == ("inner", ("a",), DOWN)
    assert outer.snapshot()["circuit_breaker"].failures == {"StreamInterrupted": 1}


async def test_decorators_stacked_on_a_generator_are_one_pipeline() -> None:
    source = Scripted([DOWN], ["a", 1, "b"], [9])

    @with_fallback(Value("instead"))
    @circuit_breaker(name="model")
    @retry_with_backoff(max_attempts=2)
    @with_timeout(seconds=5, idle=2)
    @with_bulkhead(limit=1)
    async def tokens() -> AsyncGenerator[str, None]:
        async for item in source():
            yield item

    assert await collect(tokens()) == ["a", "b"]
    assert await collect(tokens()) == ["instead"]
    pipeline = pipeline_of(tokens)
    assert pipeline is not None
    assert [policy.kind for policy in pipeline.policies] == [
        *("fallback", "circuit_breaker", "retry", "timeout", "bulkhead")
    ]
    assert pipeline.snapshot()["bulkhead"].active == 0
