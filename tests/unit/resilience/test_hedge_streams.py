"""Hedged streams: a race to the first item, and one stream from there on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    Retry,
    StreamInterrupted,
    Timeout,
    with_hedge,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.attempts import Attempt, Attempts, hedge
from tests.support.clock import now


async def test_a_stream_whose_first_item_is_late_is_opened_a_second_time() -> None:
    policy, service = hedge(), Attempts(Attempt(60), Attempt(0.5))
    items = [item async for item in Pipeline("svc", policy).stream(service.items)]
    assert items == [(1, 0), (1, 1), (1, 2)]
    assert now() == 1.5
    assert service.ended == {0: "cancelled", 1: "ok"}
    assert (policy.snapshot().started, policy.snapshot().won) == (1, 1)


async def test_after_the_first_item_nothing_is_hedged() -> None:
    policy = hedge()

    async def slow() -> AsyncGenerator[int, None]:
        for number in range(3):
            yield number
            await asyncio.sleep(60)

    assert [item async for item in Pipeline("svc", policy).stream(slow)] == [0, 1, 2]
    assert policy.snapshot().started == 0


async def test_a_stream_that_was_opened_too_late_is_closed_before_the_first_item_is_given() -> None:
    service = Attempts(
        Attempt(60), Attempt(1.0), Attempt(0.0)
    )  # both hedges have their first item at one moment
    breaker = CircuitBreaker(fail_max=1)
    pipeline = Pipeline("svc", hedge(max_hedges=2), breaker)
    async with aclosing(pipeline.stream(service.items)) as items:
        assert await anext(items) == (1, 0)
        assert service.ended == {0: "cancelled", 1: "open", 2: "GeneratorExit"}
    assert service.running == 0
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.failures, snapshot.neutral) == (0, {}, 3)


async def test_an_empty_stream_is_an_answer() -> None:
    async def nothing() -> AsyncGenerator[int, None]:
        await asyncio.sleep(0.5)
        for number in ():
            yield number

    assert [item async for item in Pipeline("svc", hedge()).stream(nothing)] == []


async def test_an_error_before_the_first_item_is_hedged_and_one_after_it_is_not() -> None:
    service = Attempts(Attempt(0.5, ConnectionError()), Attempt(0.5))
    assert len([item async for item in Pipeline("svc", hedge()).stream(service.items)]) == 3

    async def breaks() -> AsyncGenerator[int, None]:
        yield 1
        raise ConnectionError

    policy = hedge()
    with pytest.raises(StreamInterrupted):
        async for _ in Pipeline("svc", policy).stream(breaks):
            pass
    assert policy.snapshot().started == 0


async def test_what_the_consumer_sends_and_throws_reaches_the_stream_that_won() -> None:
    service = Attempts(Attempt(60), Attempt(0.5))
    heard: list[object] = []

    async def echo() -> AsyncGenerator[str, str]:
        await service()
        try:
            heard.append((yield "first"))
        except ValueError as exc:
            heard.append(exc)
        yield "second"

    for send in (lambda items: items.asend("x"), lambda items: items.athrow(ValueError("y"))):
        async with aclosing(Pipeline("svc", hedge()).stream(echo)) as items:
            assert await anext(items) == "first"
            assert await send(items) == "second"
    assert [str(each) for each in heard] == ["x", "y"]


async def test_a_consumer_that_stops_early_closes_the_stream_that_won() -> None:
    service, bulkhead = Attempts(Attempt(60), Attempt(0.5)), Bulkhead(3)
    async with aclosing(Pipeline("svc", hedge(), bulkhead).stream(service.items)) as items:
        await anext(items)
        assert bulkhead.snapshot().active == 1
    assert service.ended == {0: "cancelled", 1: "GeneratorExit"}
    assert bulkhead.snapshot().active == 0


async def test_a_consumer_that_is_cancelled_before_the_first_item_ends_both() -> None:
    service = Attempts(Attempt(60))
    items = Pipeline("svc", hedge()).stream(service.items)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(items), 2)
    assert service.ended == {0: "cancelled", 1: "cancelled"}


async def test_a_loser_whose_closing_fails_harms_nobody() -> None:
    opened = 0

    async def rude() -> AsyncGenerator[int, None]:
        nonlocal opened
        opened += 1
        number = opened
        try:
            await asyncio.sleep([60, 1.0, 0.0][number - 1])
            yield number
        finally:
            if number != 2:
                raise RuntimeError("no manners")

    assert [item async for item in Pipeline("svc", hedge(max_hedges=2)).stream(rude)] == [2]
    assert opened == 3


async def test_the_clocks_of_a_stream_inside_and_outside_still_cut() -> None:
    service = Attempts(Attempt(60), Attempt(60), Attempt(0.5))
    pipeline = Pipeline("svc", Timeout(30), Retry(2, multiplier=0.0), hedge(), Timeout(20, first_item=1.5))
    assert len([item async for item in pipeline.stream(service.items)]) == 3
    assert service.begun == [0.0, 1.0, 2.5]
    assert service.ended == {0: "cancelled", 1: "cancelled", 2: "ok"}


async def test_a_decorated_stream_is_hedged_and_leaves_nothing_when_it_is_forgotten() -> None:
    service = Attempts(Attempt(60), Attempt(0.5))
    guarded = with_hedge(1.0)(service.items)
    items = guarded()
    assert await anext(items) == (1, 0)
    del items
    await settle()
    assert service.running == 0
