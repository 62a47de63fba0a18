"""Many calls, tasks and loops under one timeout, and timeouts around each other."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mcp_server_langgraph.resilience import TimedOut
from mcp_server_langgraph.resilience._machines.timers import MAX_LENGTHS, queue_for
from mcp_server_langgraph.resilience.testing import advance, run
from tests.support.clock import now, timers
from tests.unit.resilience.timeout_helpers import BOTH, EACH, pipeline_of


@pytest.mark.parametrize("outer", ["total", "total, later", "attempt", "attempt, later"])
@pytest.mark.parametrize("inner", ["total", "total, later", "attempt", "attempt, later"])
@pytest.mark.parametrize(("outside", "inside"), [(2, 3), (3, 2), (2, 2)])
async def test_of_two_around_each_other_the_shorter_cuts_and_of_equals_the_outer(
    outer: str, inner: str, outside: float, inside: float
) -> None:
    task = asyncio.current_task()
    assert task is not None
    around, within = pipeline_of(outer, outside, "around"), pipeline_of(inner, inside, "within")
    with pytest.raises(TimedOut) as caught:
        await around.call(within.call, asyncio.sleep, 5)
    assert caught.value.pipeline == ("within" if inside < outside else "around")
    assert now() == 2
    assert task.cancelling() == 0
    await asyncio.sleep(5)


@EACH
async def test_a_task_may_enter_one_pipeline_again_and_again(kind: str) -> None:
    pipeline = pipeline_of(kind, 4)

    async def deep(level: int) -> int:
        if level == 0:
            await asyncio.sleep(3)
            return 0
        return 1 + await pipeline.call(deep, level - 1)

    assert await deep(5) == 5

    async def deep_and_slow(level: int) -> None:
        if level:
            await asyncio.sleep(1)
            await pipeline.call(deep_and_slow, level - 1)
        await asyncio.sleep(10)

    started = now()
    with pytest.raises(TimedOut):
        await pipeline.call(deep_and_slow, 3)
    assert now() == started + 4
    await asyncio.sleep(10)


@BOTH
async def test_two_thousand_tasks_under_one_policy_are_cut_in_the_order_they_came(kind: str) -> None:
    pipeline = pipeline_of(kind, 100)
    ends: list[tuple[int, float]] = []

    async def one(place: int) -> None:
        try:
            await pipeline.call(asyncio.get_running_loop().create_future)
        except TimedOut:
            ends.append((place, now()))

    tasks = []
    for place in range(2000):
        tasks.append(asyncio.create_task(one(place)))
        if place % 100 == 99:
            await advance(1)
    assert timers() == 1, "one timer, not one for each"
    await asyncio.gather(*tasks)
    assert ends == [(place, 100.0 + place // 100) for place in range(2000)]


@BOTH
async def test_no_timer_is_left_for_a_call_that_has_ended(kind: str) -> None:
    pipeline = pipeline_of(kind, 100)
    for _ in range(50):
        await pipeline.call(asyncio.sleep, 0)
    queue = queue_for(asyncio.get_running_loop(), 100)
    assert queue is not None
    assert not queue.entries
    assert timers() == 1


@BOTH
def test_loops_in_two_threads_may_share_one_policy(kind: str) -> None:
    pipeline = pipeline_of(kind, 5)
    rounds = threading.Barrier(2)
    ends: list[float] = []

    async def main() -> None:
        for _ in range(50):
            rounds.wait()
            await pipeline.call(asyncio.sleep, 1)
            rounds.wait()
            try:
                await pipeline.call(asyncio.sleep, 9)
            except TimedOut:
                ends.append(now())

    threads = [threading.Thread(target=run, args=(main(),), kwargs={"strict": True}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == sorted([6.0 * turn for turn in range(1, 51)] * 2)


@BOTH
def test_a_policy_outlives_its_loop(kind: str) -> None:
    pipeline = pipeline_of(kind, 5)

    async def main() -> float:
        with pytest.raises(TimedOut):
            await pipeline.call(asyncio.sleep, 9)
        return now()

    assert [run(main(), strict=True) for _ in range(3)] == [5, 5, 5]


@BOTH
async def test_policies_of_more_lengths_than_the_loop_keeps_queues_for_all_cut_in_time(kind: str) -> None:
    async def one(seconds: float) -> tuple[float, float]:
        with pytest.raises(TimedOut):
            await pipeline_of(kind, seconds).call(asyncio.sleep, 1000)
        return seconds, now()

    lengths = [float(length) for length in range(1, 2 * MAX_LENGTHS)]
    assert await asyncio.gather(*map(one, reversed(lengths))) == [(each, each) for each in reversed(lengths)]
