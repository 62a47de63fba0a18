"""Deadlines through several policies: whose time ran out, who is blamed for it, and what is no longer begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Fallback,
    LastGood,
    Pipeline,
    Policy,
    Retry,
    TimedOut,
    Timeout,
    Value,
    collect_degradations,
    detached,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.policy import Call, Proceed
from mcp_server_langgraph.resilience.testing import advance, settle
from tests.support.clock import now


def counted(pipeline: Pipeline) -> tuple[int, int]:
    """What the breaker counted: failures, and neutral ends."""
    snapshot = pipeline.snapshot()["circuit_breaker"]
    return sum(snapshot.failures.values()), snapshot.neutral


class Between(Policy):
    """A policy in the general form: the pipeline around it is not one frame."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        return await proceed(call)


ORDERS: dict[str, Callable[[float], list[Policy]]] = {
    "standard": lambda own: [
        Timeout(own),
        Bulkhead(9),
        Retry(3, jitter="none"),
        CircuitBreaker("b"),
        Timeout(50),
    ],
    "total and breaker": lambda own: [Timeout(own), CircuitBreaker("b")],
    "general policies between": lambda own: [
        Between(),
        Timeout(own),
        Between(),
        CircuitBreaker("b"),
        Between(),
    ],
}
EVERY_ORDER = pytest.mark.parametrize("policies", list(ORDERS.values()), ids=list(ORDERS))


async def in_this_task(work: Awaitable[Any]) -> Any:
    return await work


async def in_a_child(work: Awaitable[Any]) -> Any:
    return await asyncio.ensure_future(work)


async def in_a_group(work: Awaitable[Any]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(in_this_task(work))
    return task.result()


WHEREVER = pytest.mark.parametrize("where", [in_this_task, in_a_child, in_a_group])


# Whose time ran out


@EVERY_ORDER
@WHEREVER
async def test_our_own_time_running_out_in_mid_call_is_a_failure_of_the_dependency(
    policies: Callable[[float], list[Policy]], where: Any
) -> None:
    pipeline = Pipeline("p", *policies(5))

    async def work() -> None:
        await where(asyncio.sleep(100))

    with pytest.raises(TimedOut) as caught:
        await pipeline.call(work)
    assert (caught.value.clock, now()) == ("total", 5)
    assert counted(pipeline) == (1, 0)


@EVERY_ORDER
@WHEREVER
async def test_a_shorter_deadline_of_the_caller_says_nothing_about_the_dependency(
    policies: Callable[[float], list[Policy]], where: Any
) -> None:
    pipeline = Pipeline("p", *policies(50))
    with pytest.raises(TimedOut) as caught:
        async with timeout(5, name="caller"):
            await where(pipeline.call(asyncio.sleep, 100))
    assert (caught.value.pipeline, now()) == ("caller", 5)
    assert counted(pipeline) == (0, 1)


@EVERY_ORDER
async def test_nor_does_it_in_a_child_task_that_nobody_waits_for(
    policies: Callable[[float], list[Policy]],
) -> None:
    pipeline = Pipeline("p", *policies(50))
    async with timeout(5):
        child = asyncio.create_task(pipeline.call(asyncio.sleep, 100))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(100)
        with pytest.raises(TimedOut) as caught:
            await child
    assert (caught.value.clock, now()) == ("inherited", 5)
    assert counted(pipeline) == (0, 1)


@WHEREVER
async def test_of_two_pipelines_around_each_other_only_the_one_whose_time_ran_out_is_blamed(
    where: Any,
) -> None:
    inner = Pipeline("inner", Timeout(50), Retry(2), CircuitBreaker("i"), Timeout(40))
    outer = Pipeline("outer", Fallback(Value("instead")), Timeout(5), Retry(2), CircuitBreaker("o"))

    async def work() -> None:
        await where(inner.call(asyncio.sleep, 100))

    assert await outer.call(work) == "instead"
    assert now() == 5
    assert counted(outer) == (1, 0)
    assert counted(inner) == (0, 1)


async def test_of_two_levels_of_one_recursive_pipeline_only_the_one_whose_time_ran_out_counts() -> None:
    pipeline = Pipeline("p", Timeout(5), CircuitBreaker("b"))

    async def work() -> None:
        await asyncio.sleep(2)
        await pipeline.call(asyncio.sleep, 100)

    with pytest.raises(TimedOut):
        await pipeline.call(work)
    assert now() == 5
    assert counted(pipeline) == (1, 1)


async def test_a_block_left_open_in_the_context_does_not_hide_whose_time_ran_out() -> None:
    pipeline = Pipeline("p", Timeout(5), CircuitBreaker("b"))
    left_open: list[Any] = []

    async def items() -> AsyncGenerator[int, None]:
        async with timeout(100):
            yield 1

    async def work() -> None:
        left_open.append(items())
        await anext(left_open[0])
        await asyncio.sleep(100)

    with pytest.raises(TimedOut):
        await pipeline.call(work)
    assert counted(pipeline) == (1, 0)
    await left_open[0].aclose()


async def test_an_attempts_timeout_is_a_failure_and_the_callers_deadline_in_an_attempt_is_not() -> None:
    pipeline = Pipeline("p", Retry(1), CircuitBreaker("b"), Timeout(5))
    with pytest.raises(TimedOut):
        await pipeline.call(asyncio.sleep, 100)
    assert counted(pipeline) == (1, 0)
    async with timeout(2):
        child = asyncio.create_task(pipeline.call(asyncio.sleep, 100))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(100)
        with pytest.raises(TimedOut, match="inherited"):
            await child
    assert counted(pipeline) == (1, 1)


async def test_being_cancelled_from_outside_at_the_very_moment_is_still_being_cancelled() -> None:
    pipeline = Pipeline(
        "p", Fallback(Value("instead")), Timeout(5), Retry(3), CircuitBreaker("b"), Timeout(5)
    )
    task = asyncio.create_task(pipeline.call(asyncio.sleep, 100))
    asyncio.get_running_loop().call_at(5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


# What is no longer begun


async def test_no_attempt_is_begun_that_the_deadline_cannot_hold() -> None:
    begun: list[float] = []

    async def fail() -> None:
        begun.append(now())
        await asyncio.sleep(1)
        raise ConnectionError(f"at {now():g}")

    pipeline = Pipeline("p", Retry(9, jitter="none"), CircuitBreaker("b", fail_max=99))
    with pytest.raises(ConnectionError, match="at 6"):
        async with timeout(8):
            await pipeline.call(fail)
    assert begun == [0, 2, 5], "the next would begin at 10"
    begun.clear()
    with pytest.raises(ConnectionError):
        await Pipeline("q", Timeout(3.5), Retry(9, jitter="none")).call(fail)
    assert len(begun) == 2
    begun.clear()
    with pytest.raises(ConnectionError):
        async with timeout(3.5):
            await asyncio.create_task(pipeline.call(fail))
    assert len(begun) == 2


async def test_with_nothing_left_nobody_is_called_or_blamed() -> None:
    reached: list[str] = []

    async def reach() -> None:
        reached.append("reached")

    pipelines = [
        Pipeline("total", Fallback(Value("instead")), Timeout(5), CircuitBreaker("t")),
        Pipeline("attempt", Fallback(Value("instead")), Retry(3), CircuitBreaker("a"), Timeout(5)),
    ]

    async def late(pipeline: Pipeline) -> None:
        await asyncio.sleep(5)
        await pipeline.call(reach)

    for pipeline in pipelines:
        async with timeout(9) as block:
            child = asyncio.create_task(late(pipeline))
            await asyncio.sleep(1)
            block.reschedule(now() + 1)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(100)
            with pytest.raises(DeadlineExceeded):
                await child
        assert counted(pipeline)[0] == 0
    assert reached == []


async def test_the_wait_for_a_place_ends_with_the_total_and_leaves_the_line() -> None:
    bulkhead = Bulkhead(1, max_wait=60)
    busy = asyncio.create_task(Pipeline("p", bulkhead).call(asyncio.sleep, 50))
    await settle()
    with pytest.raises(TimedOut):
        await Pipeline("q", Timeout(5), bulkhead).call(asyncio.sleep, 1)
    assert now() == 5
    with pytest.raises(TimedOut):
        async with timeout(5):
            await Pipeline("r", bulkhead).call(asyncio.sleep, 1)
    assert (bulkhead.snapshot().active, bulkhead.snapshot().queued) == (1, 0)
    await busy
    assert bulkhead.snapshot().active == 0


async def test_a_probe_cut_by_the_callers_deadline_gives_its_place_back() -> None:
    breaker = CircuitBreaker("b", fail_max=1, timeout=60)
    pipeline = Pipeline("p", Timeout(50), breaker)
    with pytest.raises(TimedOut):
        await pipeline.call(asyncio.sleep, 100)
    with pytest.raises(CircuitOpen):
        await pipeline.call(asyncio.sleep, 0)
    await asyncio.sleep(60)
    with pytest.raises(TimedOut):
        async with timeout(1):
            await pipeline.call(asyncio.sleep, 100)
    assert (breaker.state, breaker.snapshot().probes) == ("half_open", 0)
    await pipeline.call(asyncio.sleep, 0)
    assert breaker.state == "closed"


async def test_a_probe_cut_by_our_own_time_opens_it_again() -> None:
    breaker = CircuitBreaker("b", fail_max=1, timeout=60)
    pipeline = Pipeline("p", Timeout(50), breaker)
    for _ in range(2):
        with pytest.raises(TimedOut):
            await pipeline.call(asyncio.sleep, 100)
        assert breaker.state == "open"
        await asyncio.sleep(60)


# What falls back


async def test_our_own_expiry_falls_back_and_says_so_and_the_callers_does_not() -> None:
    memory = LastGood(600)
    pipeline = Pipeline("p", Fallback(memory), Timeout(5), Retry(2), CircuitBreaker("b"), Timeout(50))
    pace = [0.0]

    async def read(key: str) -> str:
        await asyncio.sleep(pace[0])
        return f"{key} at {now():g}"

    await pipeline.call(read, "x")
    pace[0] = 100
    with collect_degradations() as notes:
        assert await pipeline.call(read, "x") == "x at 0"
        with pytest.raises(TimedOut):
            async with timeout(2):
                await pipeline.call(read, "x")
    assert [(note.reason, note.source, note.age) for note in notes] == [("TimedOut", "LastGood", 5)]


async def test_what_is_detached_inside_a_call_outlives_it() -> None:
    written: list[float] = []
    back = Pipeline("write-back", Timeout(30), Retry(2), CircuitBreaker("w"))

    async def write() -> None:
        await asyncio.sleep(20)
        written.append(now())

    async def work() -> asyncio.Task[None]:
        with detached():
            task = asyncio.create_task(back.call(write))
        assert remaining() == 5
        return task

    task = await Pipeline("p", Timeout(5), CircuitBreaker("b")).call(work)
    await task
    assert written == [20]


async def test_two_hundred_callers_with_deadlines_of_their_own_share_one_pipeline() -> None:
    pipeline = Pipeline(
        "p", Timeout(10), Bulkhead(500), Retry(1), CircuitBreaker("b", fail_max=999), Timeout(8)
    )
    ends: dict[int, tuple[str, float]] = {}

    async def caller(place: int) -> None:
        began = now()
        try:
            async with timeout(1 + place % 16):
                await pipeline.call(asyncio.sleep, 100)
        except TimedOut as exc:
            ends[place] = (exc.clock if exc.pipeline == "p" else "caller's", now() - began)

    tasks = []
    for place in range(200):
        tasks.append(asyncio.create_task(caller(place)))
        await advance(0.25)
    await asyncio.gather(*tasks)
    expected = {
        place: ("caller's", 1 + place % 16) if 1 + place % 16 <= 8 else ("attempt", 8) for place in range(200)
    }
    assert ends == expected
    assert counted(pipeline) == (96, 104)
