"""Consumers of streams that stop early: who is told what, and who gives its place back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Pipeline,
    Retry,
    Timeout,
    Value,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.streams import Scripted, collect

DOWN = ConnectionError("down")


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
