"""Streams through several policies: who acts before the first item, who is told at the end, who gives places back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Kind,
    LastGood,
    Pipeline,
    RetriesExhausted,
    Retry,
    Rung,
    StreamInterrupted,
    TimedOut,
    Timeout,
    Value,
    circuit_breaker,
    collect_degradations,
    registry,
    retry_with_backoff,
    timeout,
    with_bulkhead,
    with_fallback,
    with_timeout,
)
from mcp_server_langgraph.resilience._stack import pipeline_of
from mcp_server_langgraph.resilience.testing import settle


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def now() -> float:
    return asyncio.get_running_loop().time()


async def collect(stream: AsyncIterator[Any], into: list[Any] | None = None) -> list[Any]:
    items = [] if into is None else into
    async for item in stream:
        items.append(item)
    return items


class Scripted:
    """An async generator function. Each call does what its script says: numbers wait, texts are items, errors raise."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = scripts
        self.calls = 0
        self.given: list[dict[str, Any]] = []

    async def __call__(self, **given: Any) -> AsyncGenerator[str, None]:
        script = self.scripts[min(self.calls, len(self.scripts) - 1)]
        self.calls += 1
        self.given.append(given)
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, str):
                yield step
            else:
                await asyncio.sleep(step)


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


# A consumer that stops early


async def stop_by_break(stream: AsyncGenerator[Any, None]) -> None:
    async with aclosing(stream):
        async for _ in stream:
            break


async def stop_by_garbage_collection(stream: AsyncGenerator[Any, None]) -> None:
    await anext(stream)
    del stream


async def stop_by_cancellation(stream: AsyncGenerator[Any, None]) -> None:
    task = asyncio.create_task(collect(stream))
    await settle()
    task.cancel()
    await asyncio.wait([task])


async def stop_by_an_error_of_its_own(stream: AsyncGenerator[Any, None]) -> None:
    with suppress(ZeroDivisionError):
        async with aclosing(stream):
            async for _ in stream:
                raise ZeroDivisionError


STOPS = pytest.mark.parametrize(
    "stop", [stop_by_break, stop_by_garbage_collection, stop_by_cancellation, stop_by_an_error_of_its_own]
)


@STOPS
async def test_a_consumer_that_stops_early_is_neutral_and_gives_its_place_back(stop: Any) -> None:
    bulkhead, breaker = Bulkhead(1), CircuitBreaker("b")
    pipeline = Pipeline("s", Fallback(Value("instead")), bulkhead, Retry(3), breaker, Timeout(50))
    for make in (pipeline.stream, lambda fn: pipeline(fn)()):
        await stop(make(Scripted(["a", 10, "b"])))
        gc.collect()
        await settle()
        assert bulkhead.snapshot().active == 0
        assert (breaker.snapshot().failures, breaker.snapshot().successes) == ({}, 0)


@STOPS
async def test_a_probe_that_is_not_read_to_its_end_gives_the_next_one_its_chance(stop: Any) -> None:
    breaker = CircuitBreaker("b", fail_max=1, timeout=60)
    pipeline = Pipeline("s", Retry(1), breaker)
    with pytest.raises(ConnectionError):
        await collect(pipeline.stream(Scripted([DOWN])))
    await asyncio.sleep(60)
    await stop(pipeline.stream(Scripted(["a", 10, "b"])))
    gc.collect()
    await settle()
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 0)
    assert await collect(pipeline.stream(Scripted(["a"]))) == ["a"]
    assert breaker.state == "closed"


async def test_a_place_is_given_back_by_the_time_the_stream_is_closed() -> None:
    bulkhead = Bulkhead(1)
    for policies in ([bulkhead], [Fallback(Value("instead")), bulkhead], [Timeout(9), bulkhead, Retry(2)]):
        stream = Pipeline("s", *policies).stream(Scripted(["a", 10, "b"]))
        await anext(stream)
        assert bulkhead.snapshot().active == 1
        await stream.aclose()
        assert bulkhead.snapshot().active == 0


async def test_while_a_probe_streams_others_fail_at_once() -> None:
    breaker = CircuitBreaker("b", fail_max=1, timeout=60)
    pipeline = Pipeline("s", breaker)
    with pytest.raises(ConnectionError):
        await collect(pipeline.stream(Scripted([DOWN])))
    await asyncio.sleep(60)
    probe = pipeline.stream(Scripted(["a", "b"]))
    await anext(probe)
    with pytest.raises(CircuitOpen):
        await collect(pipeline.stream(Scripted(["c"])))
    await collect(probe)
    assert breaker.state == "closed"


async def test_a_stream_holds_its_place_as_long_as_it_is_read() -> None:
    pipeline = Pipeline("s", Bulkhead(1, max_queue=0))
    stream = pipeline.stream(Scripted(["a", "b"]))
    await anext(stream)
    with pytest.raises(BulkheadFull):
        await collect(pipeline.stream(Scripted(["c"])))
    await collect(stream)
    assert await collect(pipeline.stream(Scripted(["c"]))) == ["c"]


# Fallback


async def falls_back(*rungs: Any, script: list[Any]) -> tuple[list[Any], list[tuple[str, str, str]]]:
    pipeline = Pipeline("s", Fallback(*rungs), Timeout(5), CircuitBreaker("b", fail_max=1))
    with collect_degradations() as notes:
        items = await collect(pipeline.stream(Scripted(script)))
    return items, [(note.service, note.reason, note.source) for note in notes]


async def one() -> str:
    return "one"


async def test_a_rung_gives_a_stream_or_one_item() -> None:
    def source() -> AsyncIterator[str]:
        return Scripted(["x", "y"])()

    by = [("s", "ConnectionError", "rung")]
    assert await falls_back(Rung(Scripted(["x", 1, "y"]), "rung"), script=[DOWN]) == (["x", "y"], by)
    assert await falls_back(Rung(source, "rung"), script=[DOWN]) == (["x", "y"], by)
    assert await falls_back(Rung(one, "rung"), script=[DOWN]) == (["one"], by)
    assert await falls_back(Rung(Value("fixed"), "rung"), script=[DOWN]) == (["fixed"], by)
    assert await falls_back(Rung(Scripted([]), "rung"), script=[DOWN]) == ([], by)


async def test_a_rung_that_breaks_before_its_first_item_gives_way_to_the_next() -> None:
    broken: list[Callable[..., Any]] = [Scripted([1, TypeError("bug")]), Scripted([DOWN]), LastGood(60)]
    items, notes = await falls_back(*broken, Value("last"), script=[DOWN])
    assert (items, notes) == (["last"], [("s", "ConnectionError", "Value")])
    with pytest.raises(ConnectionError, match="down"):
        await falls_back(*broken, script=[DOWN])


async def test_a_rung_that_breaks_after_its_first_item_interrupts() -> None:
    with pytest.raises(StreamInterrupted) as caught:
        await falls_back(Scripted(["x", ConnectionResetError()]), script=[DOWN])
    assert caught.value.received == ("x",)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_after_our_own_time_ran_out_only_what_does_not_wait_is_asked() -> None:
    items, notes = await falls_back(Scripted(["x"]), one, Value("fixed"), script=[9, "late"])
    assert (items, notes) == (["fixed"], [("s", "TimedOut", "Value")])
    assert now() == 5


async def test_what_is_sent_reaches_a_rungs_stream_too() -> None:
    async def echo() -> AsyncGenerator[str, str]:
        heard = yield "ready"
        while True:
            heard = yield f"heard {heard}"

    stream = Pipeline("s", Fallback(echo)).stream(Scripted([DOWN]))
    assert await anext(stream) == "ready"
    assert await stream.asend("hello") == "heard hello"
    await stream.aclose()


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
