"""The timeout policy: whom it cuts and when, and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from mcp_server_langgraph.resilience import (
    DeadlineExceeded,
    Event,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    registry,
    subscribe,
    timeout,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.testing import advance
from tests.support.clock import now
from tests.unit.resilience.timeout_helpers import BOTH, EACH, pipeline_of


@EACH
async def test_a_call_that_takes_too_long_is_cut(kind: str) -> None:
    with pytest.raises(TimedOut) as caught:
        await pipeline_of(kind, 2).call(asyncio.sleep, 5)
    assert now() == 2
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.pipeline, caught.value.seconds, caught.value.clock) == (
        "p",
        2,
        kind.partition(",")[0],
    )
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_each_attempt_has_its_time_and_all_together_have_theirs() -> None:
    begun: list[float] = []

    async def hang() -> None:
        begun.append(now())
        await asyncio.sleep(60)

    with pytest.raises(TimedOut) as caught:
        await Pipeline("p", Timeout(5), Retry(9, multiplier=0), Timeout(2)).call(hang)
    assert (begun, now()) == ([0, 2, 4], 5)
    assert (caught.value.clock, caught.value.seconds) == ("total", 5)


@EACH
async def test_a_call_that_ends_in_time_gives_its_result(kind: str) -> None:
    assert await pipeline_of(kind, 2).call(asyncio.sleep, 1.9, "done") == "done"


@EACH
async def test_a_timeout_error_of_the_function_is_its_own(kind: str) -> None:
    own = TimeoutError("mine")

    async def fail() -> None:
        await asyncio.sleep(1)
        raise own

    with pytest.raises(TimeoutError) as caught:
        await pipeline_of(kind, 2).call(fail)
    assert caught.value is own


@EACH
async def test_an_error_of_the_function_while_it_is_cut_is_its_own(kind: str) -> None:
    async def fail() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            raise KeyError("while closing")

    with pytest.raises(KeyError):
        await pipeline_of(kind, 2).call(fail)


@EACH
async def test_a_function_that_answers_though_it_was_cut_has_answered(kind: str) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "anyway"
        raise AssertionError

    async def call() -> tuple[str, int]:
        task = asyncio.current_task()
        assert task is not None
        return await pipeline_of(kind, 2).call(stubborn), task.cancelling()

    assert await asyncio.create_task(call()) == ("anyway", 0)


@EACH
@pytest.mark.parametrize("at", [1.0, 2.0], ids=["earlier", "in the same turn"])
async def test_a_cancellation_from_outside_stays_one(kind: str, at: float) -> None:
    task = asyncio.create_task(pipeline_of(kind, 2).call(asyncio.sleep, 5))
    asyncio.get_running_loop().call_at(at, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1
    await asyncio.sleep(5)


@EACH
async def test_a_task_that_was_cancelled_before_can_still_be_cut(kind: str) -> None:
    async def cleanup() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            with pytest.raises(TimedOut):
                await pipeline_of(kind, 2).call(asyncio.sleep, 5)
        return f"cut at {now()}, asked to cancel {task.cancelling()} time"

    assert await asyncio.create_task(cleanup()) == "cut at 2.0, asked to cancel 1 time"


@EACH
async def test_where_nothing_is_left_the_call_is_not_begun(kind: str) -> None:
    reached = False

    async def reach() -> None:
        nonlocal reached
        reached = True

    async def late() -> None:
        await asyncio.sleep(5)
        with pytest.raises(DeadlineExceeded) as caught:
            await pipeline_of(kind, 3).call(reach)
        assert caught.value.pipeline == "p"

    async with timeout(10) as block:
        task = asyncio.create_task(late())
        await advance(1)
        block.reschedule(4)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.shield(task)
    assert not reached


@BOTH
async def test_a_cut_is_counted_with_its_time_and_told(kind: str) -> None:
    pipeline = pipeline_of(kind, 2)
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append)
    with pytest.raises(TimedOut):
        await pipeline.call(asyncio.sleep, 5)
    await pipeline.call(asyncio.sleep, 1)
    unsubscribe()
    numbers = {metric.name: metric.samples.get(("p", "p")) for metric in registry.metrics()}
    assert numbers["timeout_violations_total"] == 1
    durations = numbers["timeout_duration_seconds"]
    assert isinstance(durations, HistogramValue)
    assert (sum(durations.counts), durations.sum) == (1, 2)
    told = [(event.pipeline, event.details) for event in heard if event.kind == "timeout"]
    assert told == [("p", {"operation": "p", "seconds": 2, "clock": kind})]


async def test_an_attempt_after_a_cancellation_that_was_forgotten_is_still_cut() -> None:
    """As under ``asyncio.timeout``: what was asked of the task before the block began is not its concern."""
    attempts = 0

    async def forgetful() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise ConnectionError
        await asyncio.sleep(60)

    with pytest.raises(TimedOut) as caught:
        await Pipeline("p", Retry(2, jitter="none"), Timeout(5)).call(forgetful)
    assert (caught.value.clock, attempts) == ("attempt", 2)
