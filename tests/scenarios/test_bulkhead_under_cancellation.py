"""Callers come, work, are cancelled or lose patience in every order, on one loop, in threads and on several loops."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import Bulkhead, BulkheadFull, Pipeline

TICKS = st.sampled_from([0.0, 1.0, 2.0, 3.0])


@dataclass
class Plan:
    """What one caller does: it comes, works for a while, and may be cancelled at some time."""

    comes: float
    works: float
    cancelled: float | None


PLANS = st.builds(Plan, TICKS, TICKS, st.none() | TICKS)


@settings(max_examples=200, deadline=None)
@given(
    plans=st.lists(PLANS, min_size=1, max_size=12),
    limit=st.integers(1, 3),
    resized=st.lists(st.tuples(TICKS, st.integers(1, 3)), max_size=3),
)
async def test_every_place_comes_back_and_no_cancellation_is_lost(
    plans: list[Plan], limit: int, resized: list[tuple[float, int]]
) -> None:
    bulkhead = Bulkhead(limit, max_queue=4, max_wait=3)
    pipeline = Pipeline("svc", bulkhead)
    loop = asyncio.get_running_loop()
    most = max([limit, *(size for _, size in resized)])
    inside = finished = 0

    async def work(seconds: float) -> None:
        nonlocal inside, finished
        inside += 1
        assert inside <= most
        assert bulkhead.snapshot().active >= inside
        try:
            await asyncio.sleep(seconds)
            finished += 1
        finally:
            inside -= 1

    async def caller(plan: Plan) -> str:
        await asyncio.sleep(plan.comes)
        try:
            await pipeline.call(work, plan.works)
        except BulkheadFull:
            return "refused"
        return "finished"

    tasks = [asyncio.ensure_future(caller(plan)) for plan in plans]
    asked: set[asyncio.Task[str]] = set()
    for task, plan in zip(tasks, plans, strict=True):
        if plan.cancelled is not None:
            loop.call_later(plan.cancelled, lambda task=task: task.cancel() and asked.add(task))
    for when, size in resized:
        loop.call_later(when, bulkhead.resize, size)
    await asyncio.wait(tasks)
    assert {task for task in tasks if task.cancelled()} == asked
    ends = [task.result() for task in tasks if not task.cancelled()]
    assert ends.count("finished") <= finished
    snapshot = bulkhead.snapshot()
    assert (snapshot.active, snapshot.queued, snapshot.rejected) == (0, 0, ends.count("refused"))
    assert len(bulkhead.places.free) == snapshot.limit


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


class Door:
    """Counts who is inside, from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.entered = 0

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1


def in_threads(count: int, target: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            target()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a wake-up was lost"
    assert failures == []


def restored(bulkhead: Bulkhead, limit: int) -> bool:
    snapshot = bulkhead.snapshot()
    return (snapshot.active, snapshot.queued, len(bulkhead.places.free)) == (0, 0, limit)


@pytest.mark.usefixtures("eager_switching")
def test_eight_threads_with_plain_functions_never_exceed_the_limit() -> None:
    bulkhead = Bulkhead(3, max_queue=8, max_wait=60)
    pipeline = Pipeline("svc", bulkhead)
    door = Door()

    @pipeline
    def work() -> None:
        with door:
            pass

    in_threads(8, lambda: [work() for _ in range(150)] and None)
    assert (door.entered, door.most <= 3, restored(bulkhead, 3)) == (1200, True, True)


@pytest.mark.usefixtures("eager_switching")
def test_eight_loops_that_cancel_some_of_their_calls_never_exceed_the_limit() -> None:
    bulkhead = Bulkhead(3, max_queue=200, max_wait=60)
    pipeline = Pipeline("svc", bulkhead)
    door = Door()

    async def work() -> None:
        with door:
            await asyncio.sleep(0)

    async def loop_of_calls() -> None:
        chance = random.Random(0)
        for _ in range(15):
            tasks = [asyncio.ensure_future(pipeline.call(work)) for _ in range(8)]
            await asyncio.sleep(0)
            asked = {task for task in tasks if chance.random() < 0.3 and task.cancel()}
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {task for task in tasks if task.cancelled()} == asked
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

    in_threads(8, lambda: asyncio.run(loop_of_calls()))
    assert door.entered > 8
    assert (door.most <= 3, restored(bulkhead, 3)) == (True, True)


@pytest.mark.usefixtures("eager_switching")
def test_threads_and_loops_share_a_bulkhead_whose_limit_changes() -> None:
    bulkhead = Bulkhead(3, max_queue=200, max_wait=60)
    pipeline = Pipeline("svc", bulkhead)
    door = Door()
    turns = iter(range(10**9))

    def resize() -> None:
        bulkhead.resize((1, 3, 2)[next(turns) % 3])

    async def work() -> None:
        with door:
            await asyncio.sleep(0)
            resize()

    def plain_work() -> None:
        with door:
            resize()

    async def loop_of_calls() -> None:
        for _ in range(20):
            await asyncio.gather(*(pipeline.call(work) for _ in range(4)))

    def either() -> None:
        if next(turns) % 2:
            asyncio.run(loop_of_calls())
        else:
            for _ in range(80):
                pipeline.call_sync(plain_work)

    in_threads(4, either)
    bulkhead.resize(3)
    assert (door.entered, restored(bulkhead, 3)) == (320, True)
