"""Every permit ends exactly once, whatever order the steps come in and however the call ends.

A permit that is lost leaves too few places, one that ends twice too many: after each program the policy must let
exactly as many calls in as at the beginning. The orders are explored (`testing.explore`); the last tests show that a
planted leak is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Budget,
    Bulkhead,
    Cache,
    CircuitBreaker,
    Hedge,
    Keyed,
    Pipeline,
    Retry,
    Timeout,
    timeout,
)
from mcp_server_langgraph.resilience.testing import ScheduleError, Scripted, Slow, explore, run

# Seconds. Longer than any break, shorter than a probe's lease.
A_WHILE = 1000.0


def half_open() -> Pipeline:
    """Once it is open, and again: one call at a time may be a probe, and it is never closed."""
    return Pipeline("s", CircuitBreaker("s", fail_max=1, timeout=1, lease=10_000, success_threshold=100))


def everything() -> Pipeline:
    breaker = half_open().policies[0]
    return Pipeline("s", Timeout(50), Bulkhead(1), Retry(max_attempts=2, multiplier=0), breaker, Timeout(5))


MAKERS: dict[str, Callable[[], Pipeline]] = {
    "bulkhead": lambda: Pipeline("s", Bulkhead(1)),
    "bulkhead, keyed": lambda: Pipeline("s", Keyed(lambda key: Bulkhead(1), key=lambda: "key")),
    "adaptive limit": lambda: Pipeline("s", AdaptiveLimit(initial=1, min_limit=1, max_limit=1, max_queue=5)),
    "half-open breaker": half_open,
    "cache": lambda: Pipeline("s", Cache(max_age=0)),
    "everything": everything,
}


def each_policy_but(*names: str) -> pytest.MarkDecorator:
    kept = {name: make for name, make in MAKERS.items() if name not in names}
    return pytest.mark.parametrize("make", kept.values(), ids=kept.keys())


each_policy = each_policy_but()


async def quietly(begin: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
    with contextlib.suppress(Exception):
        await begin(*args)


async def prepared(make: Callable[[], Pipeline]) -> Pipeline:
    """The pipeline, its breaker (if it has one) open for a while."""
    pipeline = make()
    if any(isinstance(policy, CircuitBreaker) for policy in pipeline.policies):
        await quietly(pipeline.call, down)
        await asyncio.sleep(A_WHILE)
    return pipeline


async def let_in_as_at_the_beginning(pipeline: Pipeline) -> None:
    """One call at a time gets in, and one does get in."""
    await asyncio.sleep(A_WHILE)
    service = Scripted(lasts=0.1)
    async with timeout(0.5):
        assert await pipeline.call(service) == "fine"
    await asyncio.gather(*(quietly(pipeline.call, service) for _ in range(3)))
    assert service.most == 1, f"{service.most} at once"
    assert len(service.asked) >= 2


def program(make: Callable[[], Pipeline], body: Callable[[], Any], cancelled: int) -> Callable[[], Any]:
    """Three callers; some of them are cancelled by another task, at whatever moment."""

    async def main() -> None:
        pipeline = await prepared(make)
        callers = [asyncio.create_task(quietly(pipeline.call, body)) for _ in range(3)]

        async def cancel(number: int) -> None:
            callers[number].cancel()

        cancellers = [asyncio.create_task(cancel(number)) for number in range(cancelled)]
        await asyncio.wait([*callers, *cancellers])
        await let_in_as_at_the_beginning(pipeline)

    return main


async def fine() -> str:
    await asyncio.sleep(0)
    return "fine"


async def down() -> str:
    await asyncio.sleep(0)
    raise ConnectionError


async def mistaken() -> str:
    raise KeyError


@each_policy
@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_after_success_and_cancellation(make: Callable[[], Pipeline], cancelled: int) -> None:
    explore(program(make, fine, cancelled), max_runs=60)


@each_policy
@pytest.mark.parametrize("body", [down, mistaken])
def test_after_exceptions_and_a_cancellation(make: Callable[[], Pipeline], body: Callable[[], Any]) -> None:
    explore(program(make, body, 1), max_runs=60)


@pytest.mark.parametrize("cancelled", [False, True])
def test_after_hedges_whose_losers_hold_a_place_of_their_own(cancelled: bool) -> None:
    most: list[int] = []

    async def main() -> None:
        bulkhead = Bulkhead(2)
        pipeline = Pipeline("s", Hedge(1, budget=Budget.unlimited()), bulkhead)
        service = Scripted(Slow(60), then=Slow(1, "fine"))
        call = asyncio.create_task(quietly(pipeline.call, service))

        async def cancel() -> None:
            await asyncio.sleep(2)  # the moment at which the hedge wins
            if cancelled:
                call.cancel()

        await asyncio.wait([call, asyncio.create_task(cancel())])
        most.append(service.most)
        assert (bulkhead.snapshot().active, service.running) == (0, 0)
        others = Scripted(lasts=0.1)
        await asyncio.gather(*(quietly(Pipeline("s", bulkhead).call, others) for _ in range(4)))
        assert others.most == 2

    explore(main, max_runs=100)
    assert set(most) == {2}


async def items() -> AsyncGenerator[int, None]:
    for number in range(3):
        await asyncio.sleep(0)
        yield number


@each_policy_but("cache")
def test_after_streams_that_are_closed_early_and_one_that_is_cancelled(make: Callable[[], Pipeline]) -> None:
    async def main() -> None:
        pipeline = await prepared(make)

        async def read(most: int) -> None:
            async with contextlib.aclosing(pipeline.stream(items)) as stream:
                async for item in stream:
                    if item == most:
                        break

        readers = [asyncio.create_task(quietly(read, most)) for most in (0, 1, 9)]

        async def cancel() -> None:
            readers[1].cancel()

        await asyncio.wait([*readers, asyncio.create_task(cancel())])
        await let_in_as_at_the_beginning(pipeline)

    explore(main, max_runs=60)


@each_policy
@pytest.mark.parametrize("steps", range(8))
def test_after_the_loop_was_shut_down(make: Callable[[], Pipeline], steps: int) -> None:
    pipelines: list[Pipeline] = []

    async def stopped() -> None:
        pipelines.append(await prepared(make))
        for _ in range(3):
            asyncio.create_task(quietly(pipelines[0].call, fine))  # noqa: RUF006 (left to the end of the loop)
        for _ in range(steps):
            await asyncio.sleep(0)

    run(stopped())
    run(let_in_as_at_the_beginning(pipelines[0]), start=A_WHILE + 10)


@each_policy_but("everything")
@pytest.mark.parametrize("steps", [1, 2])
async def test_after_a_call_was_abandoned_and_collected(make: Callable[[], Pipeline], steps: int) -> None:
    pipeline = await prepared(make)
    call: Any = pipeline.call(fine)
    context = contextvars.copy_context()
    with contextlib.suppress(StopIteration):
        for _ in range(steps):
            context.run(call.send, None)
    del call
    gc.collect()
    await let_in_as_at_the_beginning(pipeline)


# That a leak would be found


def test_a_place_that_is_lost_with_its_waiter_is_found() -> None:
    def leaky() -> Pipeline:
        bulkhead = Bulkhead(1)
        bulkhead.places.withdraw = lambda waiter: True  # type: ignore[method-assign]
        return Pipeline("s", bulkhead)

    with pytest.raises(ScheduleError):
        explore(program(leaky, fine, 2))


class Twice(deque[None]):
    """Free places, of which each comes back as two."""

    def append(self, place: None) -> None:
        super().extend([place, place])


def test_a_place_that_is_given_back_twice_is_found() -> None:
    def generous() -> Pipeline:
        bulkhead = Bulkhead(1)
        bulkhead.places.free = Twice([None])
        return Pipeline("s", bulkhead)

    with pytest.raises(ScheduleError, match="at once"):
        explore(program(generous, fine, 0))


def test_a_leader_that_hands_over_to_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_server_langgraph.resilience._machines.flights.Flights.gave_up", lambda *_: None)
    with pytest.raises(ScheduleError):
        explore(program(MAKERS["cache"], fine, 1))
