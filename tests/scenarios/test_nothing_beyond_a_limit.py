"""Nothing is admitted beyond a limit, whatever order the steps come in; and a limit that is broken is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Bulkhead,
    Cache,
    CircuitBreaker,
    Keyed,
    Pipeline,
    RateLimit,
)
from mcp_server_langgraph.resilience.testing import ScheduleError, explore


def half_open(permits: int) -> Pipeline:
    """Once it is open it is never closed again: what gets in is a probe."""
    breaker = CircuitBreaker("s", fail_max=1, timeout=1, half_open_max=permits, success_threshold=100)
    return Pipeline("s", breaker)


LIMITS: dict[str, tuple[int, Callable[[], Pipeline]]] = {
    "bulkhead of one": (1, lambda: Pipeline("s", Bulkhead(1))),
    "bulkhead of two": (2, lambda: Pipeline("s", Bulkhead(2))),
    "bulkhead of a key": (1, lambda: Pipeline("s", Keyed(lambda key: Bulkhead(1), key=lambda: "key"))),
    "adaptive limit of two": (
        2,
        lambda: Pipeline("s", AdaptiveLimit(initial=2, min_limit=2, max_limit=2, max_queue=5)),
    ),
    "one probe": (1, lambda: half_open(1)),
    "two probes": (2, lambda: half_open(2)),
    "one who asks": (1, lambda: Pipeline("s", Cache(max_age=0))),
}
each_limit = pytest.mark.parametrize(("limit", "make"), LIMITS.values(), ids=LIMITS.keys())


class Inside:
    """Counts who is inside; fails at once where there are too many."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0
        self.total = 0

    async def __call__(self) -> None:
        self.now += 1
        self.total += 1
        assert self.now <= self.limit, f"{self.now} inside"
        try:
            await asyncio.sleep(0)
            if self.total == 2:
                raise KeyError  # what says nothing about the dependency
        finally:
            self.now -= 1


async def down() -> None:
    raise ConnectionError


async def quietly(begin: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
    try:
        await begin(*args)
    except AssertionError:
        raise
    except Exception:
        return


async def too_many(pipeline: Pipeline, inside: Inside, callers: int = 4) -> None:
    """More callers than places, one of whom is cancelled at whatever moment; two come later."""
    if isinstance(pipeline.policies[0], CircuitBreaker):
        await quietly(pipeline.call, down)
        await asyncio.sleep(100)
    tasks = [asyncio.create_task(quietly(pipeline.call, inside)) for _ in range(callers - 2)]

    async def cancel() -> None:
        tasks[0].cancel()

    async def come_later() -> None:
        await asyncio.sleep(0)
        await asyncio.gather(*(quietly(pipeline.call, inside) for _ in range(2)))

    others = [asyncio.create_task(cancel()), asyncio.create_task(come_later())]
    await asyncio.wait([*tasks, *others])
    for task in (*tasks, *others):
        if not task.cancelled():
            task.result()
    assert inside.total >= 1


@each_limit
def test_never_more_at_once_than_the_limit(limit: int, make: Callable[[], Pipeline]) -> None:
    explore(lambda: too_many(make(), Inside(limit)), max_runs=150)


@each_limit
@pytest.mark.parametrize("seed", [1, 2])
def test_nor_in_any_of_many_random_orders(limit: int, make: Callable[[], Pipeline], seed: int) -> None:
    explore(lambda: too_many(make(), Inside(limit), callers=6), seed=seed, max_runs=40)


def test_a_limit_that_shrinks_under_way_holds_as_soon_as_those_inside_have_left() -> None:
    async def program() -> None:
        bulkhead = Bulkhead(2, max_queue=5)
        pipeline = Pipeline("s", bulkhead)
        inside = 0
        holds = False

        async def body() -> None:
            nonlocal inside, holds
            inside += 1
            snapshot = bulkhead.snapshot()
            holds = holds or snapshot.active <= snapshot.limit == 1
            assert inside <= (1 if holds else 2), f"{inside} inside"
            await asyncio.sleep(0)
            inside -= 1

        async def shrink() -> None:
            bulkhead.resize(1)

        tasks = [asyncio.create_task(pipeline.call(body)) for _ in range(4)]  # type: ignore[arg-type]
        await asyncio.gather(asyncio.create_task(shrink()), *tasks)
        held.append(holds)

    held: list[bool] = []
    explore(program, max_runs=200)
    assert held.count(True) > len(held) / 2


def test_a_rate_limit_gives_no_more_permits_than_it_has() -> None:
    async def program() -> None:
        pipeline = Pipeline("s", RateLimit(2, per=1000, burst=2, max_wait=0))
        inside = Inside(limit=2)
        await too_many(pipeline, inside)
        assert inside.total <= 2

    explore(program, max_runs=100)


def test_two_probes_where_one_is_allowed_are_found() -> None:
    with pytest.raises(ScheduleError):
        explore(lambda: too_many(half_open(2), Inside(1)))


def test_a_place_too_many_is_found() -> None:
    def broken() -> Pipeline:
        bulkhead = Bulkhead(1)
        bulkhead.places.free.append(None)
        return Pipeline("s", bulkhead)

    with pytest.raises(ScheduleError):
        explore(lambda: too_many(broken(), Inside(1)))


def test_a_check_that_waits_before_it_takes_is_found() -> None:
    """As a hand-made limit does it that looks, waits, and takes without looking again."""

    class Careless:
        taken = 0

        async def admitted(self, inside: Inside) -> None:
            if self.taken >= 1:
                return
            await asyncio.sleep(0)
            self.taken += 1
            try:
                await inside()
            finally:
                self.taken -= 1

    async def program() -> None:
        careless = Careless()
        inside = Inside(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(careless.admitted(inside))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            group.create_task(careless.admitted(inside))

    with pytest.raises(ScheduleError):
        explore(program)
