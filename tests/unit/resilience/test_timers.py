"""The timers behind timeouts: one of the loop's for all of one length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience._machines import timers
from mcp_server_langgraph.resilience._machines.timers import (
    MAX_LENGTHS,
    Stay,
    TimerQueue,
    queue_for,
    running_task,
)
from mcp_server_langgraph.resilience.testing import VirtualClockLoop, advance, run


def now() -> float:
    return asyncio.get_running_loop().time()


def timers_set() -> int:
    """How many timers the loop has set."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def queue_of(seconds: float) -> TimerQueue:
    queue = queue_for(asyncio.get_running_loop(), seconds)
    assert queue is not None
    return queue


async def cut_at(begin: Callable[[asyncio.Task[Any]], Any]) -> float:
    """When a task was cut that let ``begin`` set its timer and then waited."""
    begin(this_task())
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return now()
    raise AssertionError("nobody cut it")


async def test_all_of_one_length_share_one_timer_and_are_cut_each_at_its_own_time() -> None:
    queue = queue_of(5)
    tasks = []
    for _ in range(16):
        tasks.append(asyncio.create_task(cut_at(lambda task: queue.add(task, now() + 5))))
        await advance(0.25)
    before = timers_set()
    assert before == 16 + 1, "each task's own sleep, and the queue's"
    assert [await task for task in tasks] == [5 + 0.25 * place for place in range(16)]
    assert not queue.entries
    assert queue.handle is None


async def test_what_ends_in_time_leaves_at_most_the_one_timer_of_its_length() -> None:
    queue = queue_of(5)
    for _ in range(100):
        stay = Stay(this_task())
        stay.arm_in(queue, now() + 5)
        await asyncio.sleep(0.01)
        assert not stay.ended()
    assert timers_set() == 1
    await asyncio.sleep(10)
    assert timers_set() == 0
    assert this_task().cancelling() == 0


async def test_a_timer_that_finds_the_first_gone_waits_for_the_next() -> None:
    queue = queue_of(5)
    gone = Stay(this_task())
    gone.arm_in(queue, now() + 5)
    await asyncio.sleep(2)
    later = asyncio.create_task(cut_at(lambda task: queue.add(task, now() + 5)))
    await asyncio.sleep(0)
    gone.disarm()
    assert await later == 7


async def test_a_cut_by_the_timer_is_taken_back_and_told() -> None:
    stay = Stay(this_task())
    stay.arm_at(asyncio.get_running_loop(), now() + 1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    assert this_task().cancelling() == 1
    assert stay.ended()
    assert this_task().cancelling() == 0


async def test_a_cancellation_from_outside_is_not_taken_for_a_cut() -> None:
    stay = Stay(this_task())
    stay.arm_at(asyncio.get_running_loop(), now() + 1)
    asyncio.get_running_loop().call_at(0.5, this_task().cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    assert not stay.ended()
    assert this_task().cancelling() == 1
    this_task().uncancel()


@pytest.mark.parametrize("keyed_by_task", [True, False])
async def test_both_in_one_turn_is_a_cancellation_from_outside(keyed_by_task: bool) -> None:
    task = this_task()
    queue = queue_of(1)
    stay = Stay(task)
    queue.add(task if keyed_by_task else stay, now() + 1)
    asyncio.get_running_loop().call_at(1, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    assert task.cancelling() == 2
    assert not (queue.ended(task) if keyed_by_task else stay.ended())
    assert task.cancelling() == 1
    task.uncancel()


async def test_earlier_cancellations_do_not_hide_a_cut() -> None:
    task = this_task()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(1)
    stay = Stay(task)
    stay.arm_at(asyncio.get_running_loop(), now() + 1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    assert stay.ended()
    assert task.uncancel() == 0


async def test_a_time_that_has_come_cuts_before_the_next_step() -> None:
    stay = Stay(this_task())
    stay.arm_at(asyncio.get_running_loop(), now())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert stay.ended()


async def test_a_stay_that_is_over_cuts_nobody() -> None:
    stay = Stay(this_task())
    stay.arm_at(asyncio.get_running_loop(), now() + 1)
    assert not stay.ended()
    stay.fire()
    await asyncio.sleep(2)
    assert not stay.fired


async def test_lengths_that_are_not_in_use_make_room_for_others() -> None:
    for length in range(1, MAX_LENGTHS * 3):
        stay = Stay(this_task())
        stay.arm_in(queue_of(float(length)), now() + length)
        assert not stay.ended()
    assert timers_set() <= MAX_LENGTHS


async def test_a_queue_that_made_room_goes_on_working_for_who_holds_it() -> None:
    held = queue_of(1000.0)
    held.add(Stay(this_task()), now() + 1000)
    held.entries.clear()
    for length in range(1, MAX_LENGTHS * 2):
        queue_of(float(length)).schedule(now() + length)
    assert queue_of(1000.0) is not held
    assert held.handle is None
    assert await asyncio.create_task(cut_at(lambda task: held.add(task, now() + 7))) == 7


async def test_more_lengths_in_use_than_there_may_be_get_no_queue() -> None:
    stays = []
    for length in range(1, MAX_LENGTHS + 1):
        stay = Stay(this_task())
        stay.arm_in(queue_of(float(length)), now() + length)
        stays.append(stay)
    assert queue_for(asyncio.get_running_loop(), 0.5) is None
    assert queue_of(3.0).entries, "a length that has its queue keeps it"
    stays[6].ended()
    assert queue_for(asyncio.get_running_loop(), 0.5) is not None
    for stay in stays:
        stay.disarm()


def test_closed_loops_are_forgotten() -> None:
    async def use() -> None:
        queue_of(1.0)

    for _ in range(5):
        run(use())
    loops = set(timers._queues)
    other = VirtualClockLoop()
    try:
        queue_for(other, 1.0)
        assert set(timers._queues) == {loop for loop in loops if not loop.is_closed()} | {other}
    finally:
        other.close()


async def test_a_task_that_leaves_in_time_is_not_cut_and_leaves_nothing() -> None:
    queue = queue_of(5)
    queue.add(this_task(), now() + 5)
    assert queue.ended(this_task()) is False
    assert not queue.entries
    await asyncio.sleep(10)
    assert this_task().cancelling() == 0


async def test_a_task_that_was_cut_hears_it_once() -> None:
    queue = queue_of(1)
    queue.add(this_task(), now() + 1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2)
    assert [queue.ended(this_task()) for _ in range(2)] == [True, False]
    assert this_task().cancelling() == 0


async def test_a_stay_can_be_disarmed_twice_and_was_not_cut() -> None:
    stay = Stay(this_task())
    stay.arm_at(asyncio.get_running_loop(), now() + 1)
    stay.disarm()
    stay.disarm()
    assert stay.ended() is False


async def test_a_stay_that_the_collector_ends_in_the_middle_of_its_expiry_cuts_nobody() -> None:
    cut: list[bool] = []

    class Interrupted(dict[Any, float]):
        def __delitem__(self, entry: Stay) -> None:
            super().__delitem__(entry)
            cut.append(entry.ended())

    queue = queue_of(1)
    queue.entries = Interrupted()
    Stay(this_task()).arm_in(queue, now() + 1)
    await asyncio.sleep(2)
    assert cut == [False]
    assert not queue.entries
    assert this_task().cancelling() == 0


async def test_what_can_be_cut_is_the_running_task() -> None:
    assert running_task() is asyncio.current_task()
    outside: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def no_task() -> None:
        with pytest.raises(RuntimeError, match=r"^a timeout needs a running task$"):
            running_task()
        outside.set_result(None)

    asyncio.get_running_loop().call_soon(no_task)
    await outside
