"""Who asks and who waits: one request for all who ask the same at once, whatever becomes of the one who asks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    Cache,
    DeadlineExceeded,
    Pipeline,
    TimedOut,
    Timeout,
    collect_degradations,
    timeout,
)
from mcp_server_langgraph.resilience._cache_at import _LEADING
from mcp_server_langgraph.resilience.testing import settle


class Slow:
    """Each call lasts until it is told how to end."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[str]] = []

    async def get(self, key: str = "key") -> str:
        self.calls.append(asyncio.get_running_loop().create_future())
        return await self.calls[-1]


def tasks(pipeline: Pipeline, source: Slow, count: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(pipeline.call(source.get)) for _ in range(count)]  # type: ignore[arg-type]


async def test_one_asks_and_the_others_wait_for_its_answer() -> None:
    cache, source = Cache(), Slow()
    callers = tasks(Pipeline("s", cache), source, 5)
    await settle()
    assert (len(source.calls), cache.snapshot().in_flight) == (1, 1)
    source.calls[0].set_result("good")
    assert await asyncio.gather(*callers) == ["good"] * 5
    snapshot = cache.snapshot()
    assert (snapshot.in_flight, snapshot.joined, snapshot.misses) == (0, 4, 1)


async def test_another_question_another_pipeline_or_no_single_flight_waits_for_nobody() -> None:
    source = Slow()
    cache = Cache()
    one, two, apart = (
        Pipeline("one", cache),
        Pipeline("two", cache),
        Pipeline("s", Cache(single_flight=False)),
    )
    callers = [
        asyncio.create_task(one.call(source.get, "a")),
        asyncio.create_task(one.call(source.get, "b")),
        asyncio.create_task(two.call(source.get, "a")),
        *(asyncio.create_task(apart.call(source.get, "a")) for _ in range(2)),
    ]
    await settle()
    assert len(source.calls) == 5
    for call in source.calls:
        call.set_result("good")
    await asyncio.gather(*callers)


async def test_a_follower_that_is_cancelled_leaves_alone() -> None:
    source = Slow()
    leader, follower, other = tasks(Pipeline("s", Cache()), source, 3)
    await settle()
    follower.cancel()
    await settle()
    assert follower.cancelled()
    source.calls[0].set_result("good")
    assert await asyncio.gather(leader, other) == ["good", "good"]
    assert len(source.calls) == 1


async def test_a_leader_that_is_cancelled_hands_over_to_the_one_who_has_waited_longest() -> None:
    source = Slow()
    leader, first, second = tasks(Pipeline("s", Cache()), source, 3)
    await settle()
    leader.cancel()
    await settle()
    assert leader.cancelled()
    assert len(source.calls) == 2
    source.calls[1].set_result("good")
    assert await asyncio.gather(first, second) == ["good", "good"]


async def test_a_leader_and_its_heir_cancelled_at_once_leave_the_place_to_the_next() -> None:
    cache, source = Cache(), Slow()
    leader, heir, other = tasks(Pipeline("s", cache), source, 3)
    await settle()
    leader.cancel()
    heir.cancel()
    await settle()
    source.calls[-1].set_result("good")
    assert await other == "good"
    assert len(source.calls) == 2
    assert cache.snapshot().in_flight == 0


async def test_an_heir_that_is_cancelled_after_it_was_told_hands_over_in_its_turn() -> None:
    cache, source = Cache(), Slow()
    leader, heir, other = tasks(Pipeline("s", cache), source, 3)
    await settle()

    async def cut_the_heir_when_the_leader_has_gone() -> None:
        while not leader.done():
            await asyncio.sleep(0)
        heir.cancel()

    cutter = asyncio.create_task(cut_the_heir_when_the_leader_has_gone())
    leader.cancel()
    await settle()
    await cutter
    source.calls[-1].set_result("good")
    assert await other == "good"
    assert heir.cancelled()
    assert cache.snapshot().in_flight == 0


async def test_the_last_one_to_leave_ends_the_flight() -> None:
    cache, source = Cache(), Slow()
    callers = tasks(Pipeline("s", cache), source, 3)
    await settle()
    for caller in callers:
        caller.cancel()
        await settle()
    assert cache.snapshot().in_flight == 0
    assert len(source.calls) == 3


async def test_a_leader_whose_callers_deadline_passes_hands_over() -> None:
    source = Slow()
    pipeline = Pipeline("s", Cache(), Timeout(60))

    async def hurried() -> str:
        async with timeout(1):
            return await pipeline.call(source.get)

    leader = asyncio.create_task(hurried())
    await settle()
    follower = asyncio.create_task(pipeline.call(source.get))  # type: ignore[arg-type]
    await asyncio.sleep(2)
    with pytest.raises(TimedOut):
        await leader
    assert len(source.calls) == 2
    source.calls[1].set_result("good")
    assert await follower == "good"


@pytest.mark.parametrize("error", [DeadlineExceeded("s"), TimedOut("s", 1.0, "inherited")])
async def test_a_leader_that_finds_its_callers_deadline_passed_keeps_that_to_itself(error: Exception) -> None:
    """These are exceptions, and yet of one caller only."""
    source = Slow()
    leader, follower, other = tasks(Pipeline("s", Cache()), source, 3)
    await settle()
    source.calls[0].set_exception(error)
    await settle()
    assert leader.exception() is error
    assert len(source.calls) == 2
    source.calls[1].set_result("good")
    assert await asyncio.gather(follower, other) == ["good", "good"]


async def test_leading_is_over_with_the_call() -> None:
    source, pipeline = Slow(), Pipeline("s", Cache())

    async def lead() -> tuple[object, ...]:
        await pipeline.call(source.get)
        return _LEADING.get()

    task = asyncio.create_task(lead())
    await settle()
    source.calls[0].set_result("good")
    assert await task == ()


async def test_a_follower_with_less_time_is_cut_alone() -> None:
    source = Slow()
    pipeline = Pipeline("s", Cache())
    (leader,) = tasks(pipeline, source, 1)
    await settle()
    with pytest.raises(TimedOut):
        async with timeout(1):
            await pipeline.call(source.get)
    source.calls[0].set_result("good")
    assert await leader == "good"


async def test_an_error_goes_to_all_and_each_has_its_own() -> None:
    source = Slow()
    callers = tasks(Pipeline("s", Cache()), source, 3)
    await settle()
    error = ConnectionError("refused")
    source.calls[0].set_exception(error)
    first, *others = await asyncio.gather(*callers, return_exceptions=True)
    assert first is error
    assert all(isinstance(other, ConnectionError) and other is not error for other in others)
    assert [str(other) for other in others] == ["refused"] * 2
    assert len(source.calls) == 1


async def test_our_own_refusal_of_the_leader_refuses_all() -> None:
    """Or else each of those who waited would knock at the same full door."""
    source = Slow()
    bulkhead = Bulkhead(1, max_queue=0)
    pipeline = Pipeline("s", Cache(), bulkhead)
    busy = asyncio.create_task(Pipeline("other", bulkhead).call(source.get))  # type: ignore[arg-type]
    await settle()
    results = await asyncio.gather(*tasks(pipeline, source, 3), return_exceptions=True)
    assert [type(result) for result in results] == [BulkheadFull] * 3
    source.calls[0].set_result("good")
    await busy


async def test_those_who_waited_for_a_bad_result_get_it_and_it_is_not_remembered() -> None:
    source = Slow()
    pipeline = Pipeline("s", Cache(ttl=60), is_failure=lambda text: text == "bad")
    callers = tasks(pipeline, source, 3)
    await settle()
    source.calls[0].set_result("bad")
    assert await asyncio.gather(*callers) == ["bad"] * 3
    (again,) = tasks(pipeline, source, 1)
    await settle()
    source.calls[1].set_result("good")
    assert await again == "good"


async def test_each_of_those_who_waited_gets_the_stale_answer_and_hears_so() -> None:
    source = Slow()
    pipeline = Pipeline("s", Cache())

    async def told() -> tuple[str, list[str]]:
        with collect_degradations() as notes:
            answer = await pipeline.call(source.get)
        return answer, [note.reason for note in notes]

    first = asyncio.create_task(told())
    await settle()
    source.calls[0].set_result("good")
    assert await first == ("good", [])
    callers = [asyncio.create_task(told()) for _ in range(3)]
    await settle()
    source.calls[1].set_exception(ConnectionError())
    assert await asyncio.gather(*callers) == [("good", ["ConnectionError"])] * 3


async def test_who_asks_the_same_in_the_course_of_leading_does_not_wait_for_itself() -> None:
    pipeline = Pipeline("s", Cache(key=lambda depth: "the same"))

    async def recursive(depth: int) -> int:
        if depth == 0:
            return 0
        direct = await pipeline.call(recursive, depth - 1)
        return 1 + direct + await asyncio.create_task(pipeline.call(recursive, 0))  # type: ignore[arg-type]

    assert await pipeline.call(recursive, 3) == 3


async def test_a_leader_that_was_abandoned_hands_over_when_it_is_collected() -> None:
    source = Slow()
    cache = Cache()
    pipeline = Pipeline("s", cache)
    abandoned: Any = pipeline.call(source.get)
    contextvars.copy_context().run(abandoned.send, None)
    follower = asyncio.create_task(pipeline.call(source.get))  # type: ignore[arg-type]
    await settle()
    del abandoned
    source.calls.clear()
    gc.collect()
    await settle()
    assert len(source.calls) == 1
    source.calls[0].set_result("good")
    assert await follower == "good"
    assert cache.snapshot().in_flight == 0


def test_a_leader_that_is_collected_after_its_loop_was_closed_does_no_harm() -> None:
    source, pipeline = Slow(), Pipeline("s", Cache())
    left: list[Any] = []

    async def abandon() -> None:
        left.append(pipeline.call(source.get))
        left[0].send(None)

    asyncio.run(abandon())
    left.clear()
    source.calls.clear()
    gc.collect()


def test_the_end_of_a_loop_ends_its_flights_and_another_loop_begins_anew() -> None:
    cache, source = Cache(ttl=60), Slow()
    pipeline = Pipeline("s", cache)

    async def leave_them_waiting() -> None:
        tasks(pipeline, source, 3)
        await asyncio.sleep(0)

    async def answered() -> str:
        (caller,) = tasks(pipeline, source, 1)
        await asyncio.sleep(0)
        source.calls[-1].set_result("good")
        return await caller

    asyncio.run(leave_them_waiting())
    assert cache.snapshot().in_flight == 0
    assert asyncio.run(answered()) == "good"
    assert asyncio.run(pipeline.call(source.get)) == "good"  # type: ignore[arg-type]
    assert len(cache._flights) == 1


def test_loops_in_two_threads_share_answers_and_do_not_wait_for_one_another() -> None:
    cache = Cache(ttl=60)
    pipeline = Pipeline("s", cache)
    asked: list[int] = []
    together = threading.Barrier(2, timeout=60)

    async def source() -> str:
        asked.append(1)
        await asyncio.to_thread(together.wait)
        return "good"

    def work() -> None:
        assert asyncio.run(pipeline.call(source)) == "good"  # type: ignore[arg-type]

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(asked) == 2
    assert asyncio.run(pipeline.call(source)) == "good"  # type: ignore[arg-type]
    assert len(asked) == 2
