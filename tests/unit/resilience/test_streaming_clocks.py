"""The four clocks of a stream, its deadline, and the context it runs in."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    DeadlineExceeded,
    Pipeline,
    Policy,
    Retry,
    StreamInterrupted,
    TimedOut,
    Timeout,
    registry,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.clock import now
from tests.support.streams import collect, paced
from tests.unit.resilience.streaming_helpers import everything


@pytest.mark.parametrize(
    ("policies", "waits", "clock", "items", "end"),
    [
        ([Timeout(10, first_item=2)], [3, 0], "first item", [], 2),
        ([Timeout(10, first_item=2)], [1, 5, 5], "total", [0, 1], 10),
        ([Timeout(10, idle=2)], [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5], "total", [0, 1, 2, 3, 4, 5], 10),
        ([Timeout(10, idle=2)], [1, 1.5, 1.5, 3], "idle", [0, 1, 2], 6),
        ([Timeout(10)], [4, 4, 4], "total", [0, 1], 10),
        ([Timeout(10)], [11], "total", [], 10),
        ([Retry(1), Timeout(10)], [4, 4, 4], "attempt", [0, 1], 10),
        ([Retry(1), Timeout(10, first_item=1)], [2], "first item", [], 1),
        ([Retry(1), Timeout(10, idle=2)], [4, 3], "idle", [0], 6),
        ([Timeout(8), Retry(1), Timeout(10, idle=2)], [1, 3], "idle", [0], 3),
        ([Timeout(8), Retry(1), Timeout(10, idle=9)], [1, 30], "total", [0], 8),
    ],
)
async def test_each_clock_cuts(
    policies: list[Policy], waits: list[float], clock: str, items: list[int], end: float
) -> None:
    got: list[int] = []
    with pytest.raises((TimedOut, StreamInterrupted)) as caught:
        await collect(everything(*policies).stream(paced, *waits), got)
    error: BaseException = caught.value
    if items:
        assert isinstance(error, StreamInterrupted)
        assert (error.received, error.count) == (tuple(items), len(items))
        error = error.__cause__ or error
    assert isinstance(error, TimedOut)
    assert (error.clock, error.pipeline, got, now()) == (clock, "s", items, end)
    length = next(
        getattr(policy, clock.replace(" ", "_") if clock in ("idle", "first item") else "seconds")
        for policy in (policies if clock == "total" else reversed(policies))
    )
    assert error.seconds == length


async def test_the_clocks_stand_still_while_the_consumer_works_except_those_of_the_whole() -> None:
    stream = everything(Timeout(10, idle=1)).stream(paced, 0.5, 0.5, 0.5)
    async for item in stream:
        if item < 2:
            await asyncio.sleep(3)
    assert now() == 7.5


async def test_a_whole_time_that_ran_out_at_the_consumers_cuts_the_next_step() -> None:
    stream = everything(Timeout(5)).stream(paced, 1, 1)
    await anext(stream)
    await asyncio.sleep(9)
    with pytest.raises(StreamInterrupted) as caught:
        await anext(stream)
    assert isinstance(caught.value.__cause__, TimedOut)
    assert now() == 10


async def test_so_it_does_where_the_next_item_is_there_already() -> None:
    got: list[int] = []
    stream = everything(Timeout(5)).stream(paced, 0, 0, 0, 0)

    async def slowly() -> None:
        async for item in stream:
            got.append(item)
            await asyncio.sleep(2)

    with pytest.raises(StreamInterrupted) as caught:
        await slowly()
    assert (got, now(), caught.value.__cause__.__class__) == ([0, 1, 2], 6, TimedOut)


async def test_the_total_covers_the_wait_for_a_place_and_between_attempts() -> None:
    async def refused() -> AsyncGenerator[int, None]:
        if now() >= 0:
            raise ConnectionError
        yield 1

    bulkhead = Bulkhead(1, max_wait=60)
    first = everything(bulkhead).stream(paced, 0, 1)
    await anext(first)
    with pytest.raises(TimedOut) as caught:
        await anext(everything(Timeout(5), bulkhead).stream(paced, 0))
    assert (caught.value.clock, now(), bulkhead.snapshot().queued) == ("total", 5, 0)
    await first.aclose()
    with pytest.raises(ConnectionError):
        await anext(everything(Timeout(5), Retry(5, jitter="none")).stream(refused))
    assert now() == 5 + 1 + 2, "a fourth attempt would have begun at 7 s of 5"


async def test_the_time_of_a_place_in_line_before_the_total_does_not_count() -> None:
    bulkhead = Bulkhead(1, max_wait=60)
    first = everything(bulkhead).stream(paced, 0, 1)
    await anext(first)
    asyncio.get_running_loop().call_at(20, lambda: asyncio.ensure_future(first.aclose()))
    assert await collect(everything(bulkhead, Timeout(5)).stream(paced, 4)) == [0]
    assert now() == 24


async def test_settings_changed_meanwhile_do_not_touch_a_stream_that_has_begun() -> None:
    registry.reload({"REDIS_TIMEOUT": "5"})
    pipeline = Pipeline("redis", Timeout())
    stream = pipeline.stream(paced, 1, 10)
    await anext(stream)
    registry.reload({"REDIS_TIMEOUT": "100"})
    with pytest.raises(StreamInterrupted):
        await anext(stream)
    assert now() == 5


# Deadlines and the context


async def test_the_generator_sees_the_deadline_and_the_consumer_never_does() -> None:
    seen: list[float | None] = []

    async def looks() -> AsyncGenerator[int, None]:
        for item in range(3):
            seen.append(remaining())
            yield item
            await asyncio.sleep(1)

    before = list(contextvars.copy_context().items())
    async for _ in everything(Timeout(10), Retry(2), Timeout(8, idle=3)).stream(looks):
        assert remaining() is None
        assert [item for item in contextvars.copy_context().items() if item[1] is not None] == before
    assert seen == [8, 3 - 1, 3 - 1]
    assert remaining() is None


async def test_it_may_be_consumed_from_one_task_after_the_other() -> None:
    stream = everything(Timeout(10, idle=2), Bulkhead(1)).stream(paced, 1, 1, 1)
    items = [await asyncio.create_task(_next(stream)) for _ in range(3)]
    assert items == [0, 1, 2]
    await stream.aclose()


async def _next(stream: AsyncGenerator[Any, None]) -> Any:
    return await anext(stream)


@pytest.mark.parametrize("policies", [[Timeout(20)], [Retry(1), Timeout(20)]], ids=["total", "attempt"])
async def test_a_shorter_deadline_of_the_caller_is_told_apart(policies: list[Policy]) -> None:
    with pytest.raises(TimedOut) as caught:
        async with timeout(5, name="caller"):
            await collect(everything(*policies).stream(paced, 1, 9))
    assert (caught.value.pipeline, caught.value.clock) == ("caller", "total")
    async with timeout(5):
        child = asyncio.create_task(collect(everything(*policies).stream(paced, 1, 9)))
        await settle()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(9)
        with pytest.raises(TimedOut) as caught:
            await child
    assert (caught.value.pipeline, caught.value.clock) == ("s", "inherited")


async def test_where_nothing_is_left_the_stream_is_not_begun() -> None:
    async def late() -> None:
        await asyncio.sleep(4)
        await collect(everything(Bulkhead(1), Timeout(5)).stream(paced, 0))

    async with timeout(5) as block:
        child = asyncio.create_task(late())
        await asyncio.sleep(1)
        block.reschedule(3)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(9)
        with pytest.raises(DeadlineExceeded):
            await child
