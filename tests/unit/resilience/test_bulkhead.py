"""The bulkhead on one loop: its limit, its line, its patience, cancellation and its numbers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Bulkhead, BulkheadFull, Pipeline, TimedOut, Timeout, registry
from mcp_server_langgraph.resilience._machines.places import LoopWaiter
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.testing import settle


class Work:
    """Calls that last until they are let go, and a note of who is inside."""

    def __init__(self, bulkhead: Bulkhead) -> None:
        self.pipeline = Pipeline("svc", bulkhead)
        self.gates: dict[str, asyncio.Event] = {}
        self.inside: list[str] = []

    async def last(self, name: str) -> str:
        self.inside.append(name)
        await self.gates[name].wait()
        self.inside.remove(name)
        return name

    async def begin(self, *names: str) -> list[asyncio.Task[str]]:
        """One call each, up to the point where it works or waits."""
        tasks = []
        for name in names:
            self.gates[name] = asyncio.Event()
            tasks.append(asyncio.ensure_future(self.pipeline.call(self.last, name)))
            await settle()
        return tasks

    async def end(self, *names: str) -> None:
        for name in names:
            self.gates[name].set()
            await settle()


def numbers(bulkhead: Bulkhead) -> tuple[int, int, int, int]:
    """(limit, active, queued, rejected), the same in snapshot and metrics."""
    snapshot = bulkhead.snapshot()
    told = {
        metric.name: next(iter(metric.samples.values())) for metric in registry.metrics() if metric.samples
    }
    read = tuple(
        told[f"bulkhead_{name}"] for name in ("limit", "active_operations", "queue_depth", "rejections_total")
    )
    assert (snapshot.limit, snapshot.active, snapshot.queued, snapshot.rejected) == read
    return snapshot.limit, snapshot.active, snapshot.queued, snapshot.rejected


async def test_calls_beyond_the_limit_wait_and_are_served_in_the_order_they_came() -> None:
    bulkhead = Bulkhead(2, max_queue=3, max_wait=100)
    work = Work(bulkhead)
    tasks = await work.begin("a", "b", "c", "d", "e")
    assert (work.inside, numbers(bulkhead)) == (["a", "b"], (2, 2, 3, 0))
    await work.end("b")
    assert (work.inside, numbers(bulkhead)) == (["a", "c"], (2, 2, 2, 0))
    await work.end("a", "c")
    assert (work.inside, numbers(bulkhead)) == (["d", "e"], (2, 2, 0, 0))
    await work.end("d", "e")
    assert await asyncio.gather(*tasks) == ["a", "b", "c", "d", "e"]
    assert numbers(bulkhead) == (2, 0, 0, 0)


async def test_a_full_line_refuses_at_once() -> None:
    bulkhead = Bulkhead(1, max_queue=1, max_wait=100)
    work = Work(bulkhead)
    held, waiting, refused = await work.begin("a", "b", "c")
    assert refused.done()
    with pytest.raises(BulkheadFull) as caught:
        await refused
    assert (caught.value.pipeline, caught.value.policy) == ("svc", "bulkhead")
    assert numbers(bulkhead) == (1, 1, 1, 1)
    await work.end("a", "b")
    assert await asyncio.gather(held, waiting) == ["a", "b"]


def waits(bulkhead: Bulkhead) -> HistogramValue:
    """How long those waited that got a place, as the metric tells."""
    [metric] = [metric for metric in registry.metrics() if metric.name == "bulkhead_queue_wait_seconds"]
    value = metric.samples[("svc",)]
    assert isinstance(value, HistogramValue)
    return value


async def test_the_time_of_each_wait_that_ended_with_a_place_is_measured_and_of_no_other() -> None:
    bulkhead = Bulkhead(1, max_queue=3, max_wait=4)
    work = Work(bulkhead)
    held, waited, late, gone = await work.begin("a", "b", "c", "d")
    assert sum(waits(bulkhead).counts) == 0  # who enters at once has not waited
    gone.cancel()
    await asyncio.sleep(3)
    await work.end("a")
    await asyncio.sleep(2)
    assert isinstance(late.exception(), BulkheadFull)
    await work.end("b")
    assert await asyncio.gather(held, waited) == ["a", "b"]
    value = waits(bulkhead)
    assert (value.sum, sum(value.counts), value.counts[value.bounds.index(5.0)]) == (3, 1, 1)


async def test_a_newcomer_does_not_overtake_the_line() -> None:
    bulkhead = Bulkhead(1, max_queue=2, max_wait=100)
    work = Work(bulkhead)
    tasks = await work.begin("a", "b")
    work.gates["c"] = asyncio.Event()
    work.gates["a"].set()
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(work.pipeline.call(work.last, "c")))
    await settle()
    assert work.inside == ["b"]
    await work.end("b", "c")
    await asyncio.gather(*tasks)


async def test_who_waited_long_enough_is_refused_and_takes_nothing_along() -> None:
    bulkhead = Bulkhead(1, max_queue=5, max_wait=3)
    work = Work(bulkhead)
    (held,) = await work.begin("a")
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(BulkheadFull):
        await work.pipeline.call(work.last, "b")
    assert loop.time() - began == 3
    assert numbers(bulkhead) == (1, 1, 0, 1)
    await work.end("a")
    assert await held == "a"
    assert numbers(bulkhead) == (1, 0, 0, 1)


@pytest.mark.parametrize("options", [{"max_wait": 0}, {"max_queue": 0}])
async def test_a_bulkhead_without_a_line_refuses_at_once(options: dict[str, Any]) -> None:
    bulkhead = Bulkhead(1, **options)
    work = Work(bulkhead)
    held, refused = await work.begin("a", "b")
    assert isinstance(refused.exception(), BulkheadFull)
    await work.end("a")
    await held
    (again,) = await work.begin("c")
    await work.end("c")
    assert await again == "c"


async def test_a_place_handed_over_as_the_patience_ends_is_used() -> None:
    bulkhead = Bulkhead(1, max_wait=2)
    work = Work(bulkhead)
    bulkhead.places.free.pop()
    (waiting,) = await work.begin("a")
    asyncio.get_running_loop().call_later(2, bulkhead.places.give_back)
    await asyncio.sleep(2)
    await settle()
    assert work.inside == ["a"]
    await work.end("a")
    assert await waiting == "a"
    assert numbers(bulkhead) == (1, 0, 0, 0)


async def test_who_is_cancelled_while_waiting_leaves_the_line() -> None:
    bulkhead = Bulkhead(1, max_wait=100)
    work = Work(bulkhead)
    held, waiting = await work.begin("a", "b")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelling() == 1
    assert numbers(bulkhead) == (1, 1, 0, 0)
    await work.end("a")
    await held


async def test_who_is_cancelled_in_the_turn_in_which_the_place_comes_passes_it_on() -> None:
    bulkhead = Bulkhead(1, max_queue=2, max_wait=100)
    work = Work(bulkhead)
    held, second, third = await work.begin("a", "b", "c")
    work.gates["a"].set()
    await asyncio.sleep(0)
    assert bulkhead.snapshot().queued == 1, "the place is on its way to b"
    assert second.cancel()
    await settle()
    assert second.cancelled()
    assert work.inside == ["c"]
    await work.end("c")
    assert await asyncio.gather(held, third) == ["a", "c"]
    assert numbers(bulkhead) == (1, 0, 0, 0)


async def test_a_place_handed_over_to_one_who_was_cancelled_a_moment_before_is_passed_on() -> None:
    bulkhead = Bulkhead(1, max_queue=2, max_wait=100)
    work = Work(bulkhead)
    bulkhead.places.free.pop()
    second, third = await work.begin("b", "c")
    second.cancel()
    bulkhead.places.give_back()
    await settle()
    assert (second.cancelled(), work.inside) == (True, ["c"])
    await work.end("c")
    await third
    assert numbers(bulkhead) == (1, 0, 0, 0)


async def test_a_timeout_around_the_wait_is_not_swallowed() -> None:
    bulkhead = Bulkhead(1, max_wait=100)
    work = Work(bulkhead)
    (held,) = await work.begin("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await work.pipeline.call(work.last, "b")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    total = Pipeline("svc", Timeout(2), bulkhead)
    with pytest.raises(TimedOut):
        await total.call(work.last, "c")
    assert numbers(bulkhead)[:3] == (1, 1, 0)
    await work.end("a")
    await held


async def test_a_larger_limit_lets_those_in_who_wait() -> None:
    bulkhead = Bulkhead(1, max_queue=4, max_wait=100)
    work = Work(bulkhead)
    tasks = await work.begin("a", "b", "c", "d")
    bulkhead.resize(3)
    await settle()
    assert (work.inside, numbers(bulkhead)) == (["a", "b", "c"], (3, 3, 1, 0))
    await work.end("a", "b", "c", "d")
    await asyncio.gather(*tasks)


async def test_a_smaller_limit_takes_the_places_that_come_back() -> None:
    bulkhead = Bulkhead(3, max_queue=4, max_wait=100)
    work = Work(bulkhead)
    tasks = await work.begin("a", "b", "c", "d")
    bulkhead.resize(1)
    assert numbers(bulkhead) == (1, 3, 1, 0)
    await work.end("a", "b")
    assert (work.inside, numbers(bulkhead)) == (["c"], (1, 1, 1, 0))
    await work.end("c")
    assert (work.inside, numbers(bulkhead)) == (["d"], (1, 1, 0, 0))
    await work.end("d")
    await asyncio.gather(*tasks)
    assert numbers(bulkhead) == (1, 0, 0, 0)


async def test_a_line_of_no_set_length_is_as_long_as_there_are_places() -> None:
    bulkhead = Bulkhead(1)
    assert bulkhead.max_queue == 1
    bulkhead.resize(4)
    assert bulkhead.max_queue == 4
    assert bulkhead.settings() == {"limit": 4, "max_queue": 4, "max_wait": 5.0}


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt, GeneratorExit])
async def test_every_way_out_gives_the_place_back(error: type[BaseException]) -> None:
    bulkhead = Bulkhead(1, max_wait=0)

    async def broken() -> None:
        raise error

    for _ in range(3):
        with pytest.raises(error):
            await Pipeline("svc", bulkhead).call(broken)
    assert bulkhead.snapshot().active == 0


async def test_a_place_outlives_the_loop_of_one_who_waited_for_it() -> None:
    bulkhead = Bulkhead(1, max_queue=5, max_wait=100)
    work = Work(bulkhead)
    (held,) = await work.begin("a")
    other = asyncio.new_event_loop()
    bulkhead.places.enqueue(LoopWaiter(other), 5)
    other.close()
    (waiting,) = await work.begin("b")
    await work.end("a", "b")
    assert await asyncio.gather(held, waiting) == ["a", "b"]
    assert numbers(bulkhead) == (1, 0, 0, 0)


async def test_its_pipeline_is_saturated_while_all_places_are_taken() -> None:
    work = Work(Bulkhead(2))
    [full] = work.pipeline.site.saturation
    seen = [full()]
    for name in "ab":
        await work.begin(name)
        seen.append(full())
    await work.end("a", "b")
    await settle()
    assert [*seen, full()] == [False, False, True, False]


class Meanwhile(deque[None]):
    """Free places; just before one comes back, something happens in another thread."""

    def __init__(self, places: deque[None], happens: Callable[[], None]) -> None:
        super().__init__(places)
        self.happens = happens

    def append(self, place: None) -> None:
        self.happens()
        super().append(place)


async def test_a_limit_that_shrinks_while_a_place_comes_back_is_not_exceeded() -> None:
    bulkhead = Bulkhead(2, max_wait=0)
    bulkhead.places.free = Meanwhile(bulkhead.places.free, lambda: bulkhead.resize(1))
    work = Work(bulkhead)
    one, other = await work.begin("a", "b")
    await work.end("a")
    assert numbers(bulkhead) == (1, 1, 0, 0)
    (refused,) = await work.begin("c")
    assert isinstance(refused.exception(), BulkheadFull)
    await work.end("b")
    assert await asyncio.gather(one, other) == ["a", "b"]


async def test_a_place_that_is_owed_is_at_no_moment_there_to_be_taken() -> None:
    came_back: list[int] = []
    bulkhead = Bulkhead(2, max_wait=0)
    bulkhead.places.free = Meanwhile(bulkhead.places.free, lambda: came_back.append(1))
    work = Work(bulkhead)
    one, other = await work.begin("a", "b")
    bulkhead.resize(1)
    await work.end("a")
    assert came_back == []
    await work.end("b")
    assert came_back == [1]
    assert await asyncio.gather(one, other) == ["a", "b"]
