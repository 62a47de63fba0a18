"""How a guarded stream ends: interrupted, cancelled, closed or exhausted, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Retry, StreamInterrupted, registry
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.streaming import KEPT_ITEMS
from tests.support.clock import now
from tests.support.streams import collect, paced
from tests.unit.resilience.streaming_helpers import LAYERS, everything


async def test_an_interruption_keeps_the_last_items_and_counts_all() -> None:
    async def long() -> AsyncGenerator[int, None]:
        for item in range(KEPT_ITEMS + 5):
            yield item
        raise ConnectionResetError

    with pytest.raises(StreamInterrupted) as caught:
        await collect(everything().stream(long))
    assert caught.value.count == KEPT_ITEMS + 5
    assert caught.value.received == tuple(range(5, KEPT_ITEMS + 5))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("error", [TypeError("bug"), PermissionError("no")])
async def test_what_is_no_failure_of_the_dependency_passes_as_it_is(error: Exception) -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    with pytest.raises(type(error)) as caught:
        await collect(everything(CircuitBreaker()).stream(breaks))
    assert caught.value is error


@LAYERS
async def test_cancellation_in_the_middle_stays_cancellation_and_closes_the_generator(pipeline: Any) -> None:
    closed: list[float] = []

    async def watched() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(50)
        finally:
            closed.append(now())

    guarded = pipeline()
    task = asyncio.create_task(collect(guarded.stream(watched)))
    asyncio.get_running_loop().call_later(3, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert closed == [3]
    assert await collect(guarded.stream(paced, 0)) == [0], "its place was given back"


async def test_a_generator_that_breaks_while_it_is_closed_gives_its_place_back_too() -> None:
    async def awkward() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise KeyError("while closing")

    bulkhead = Bulkhead(1)
    pipeline = everything(bulkhead, Retry(3), CircuitBreaker("b"))
    stream = pipeline.stream(awkward)
    await anext(stream)
    with pytest.raises(KeyError, match="while closing"):
        await stream.aclose()
    assert bulkhead.snapshot().active == 0


class Connection:
    """An async iterator that takes a second to close; `error` comes from where `breaks` says."""

    def __init__(self, breaks: str, error: Exception) -> None:
        self.breaks = breaks
        self.error = error
        self.closed = 0

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> int:
        if self.breaks == "reading":
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1
        await asyncio.sleep(1)
        if self.breaks == "closing":
            raise self.error


async def test_a_stream_that_ends_and_breaks_while_it_is_closed_has_failed() -> None:
    pipeline = everything(Bulkhead(1), CircuitBreaker("b"))
    with pytest.raises(ConnectionError):
        await collect(pipeline.stream(Connection, "closing", ConnectionError()))
    assert pipeline.snapshot()["bulkhead"].active == 0
    assert pipeline.snapshot()["circuit_breaker"].failures == {"ConnectionError": 1}


async def test_cancellation_while_a_failed_attempt_is_closed_is_not_retried() -> None:
    connection = Connection("reading", ConnectionError())
    retry = Retry(9, retry=lambda state: True)
    task = asyncio.create_task(collect(everything(retry).stream(lambda: connection)))
    asyncio.get_running_loop().call_later(0.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (connection.closed, now()) == (1, 0.5)


async def test_how_streams_ended_is_counted_at_their_end() -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield 1
        raise ConnectionError

    pipeline = everything(CircuitBreaker("b"))

    def numbers() -> dict[str, Any]:
        found = {metric.name: metric.samples for metric in registry.metrics()}
        calls = found["resilience_calls_total"]
        return {labels[2]: count for labels, count in calls.items() if count}

    stream = pipeline.stream(paced, 1, 2)
    await anext(stream)
    assert numbers() == {}
    await collect(stream)
    assert numbers() == {"success": 1}
    with pytest.raises(StreamInterrupted):
        await collect(pipeline.stream(breaks))
    async with aclosing(pipeline.stream(paced, 1, 1)) as early:
        await anext(early)
    assert numbers() == {"success": 1, "failure": 1, "neutral": 1}
    durations = {metric.name: metric.samples for metric in registry.metrics()}[
        "resilience_call_duration_seconds"
    ]
    duration = durations["s", "s"]
    assert isinstance(duration, HistogramValue)
    assert duration.sum == 3
