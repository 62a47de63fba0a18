"""The program of the soak: seeded calls of every kind through pipelines with every policy, in virtual time.

Twenty workers call, one after the other, a dependency that mostly answers and sometimes is slow, fails, asks for a
pause, hangs or is down for a while; callers are cancelled, run out of time, or close a stream early. After each part
nothing of it may be left: `left_over` looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import sys
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, NamedTuple

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Budget,
    Bulkhead,
    Cache,
    CircuitBreaker,
    Cooldown,
    Fallback,
    Hedge,
    Keyed,
    LastGood,
    Outlier,
    Pipeline,
    Policy,
    Quota,
    RateLimit,
    Rejected,
    Retry,
    Shed,
    Throttle,
    Timeout,
    collect_degradations,
    current_attempt,
    current_deadline,
    current_endpoint,
    current_hedge,
    timeout,
)
from mcp_server_langgraph.resilience.testing import StatusError

__all__ = ["PIPELINES", "LeftOver", "Soak"]

WORKERS: Final = 20
# Of a period of calls the first ones meet a dependency that is down: that is what opens breakers.
PERIOD: Final = 4_000
DOWN: Final = 150
# Keys that come and go: far more than any table keeps.
KEYS: Final = 100_000
KEPT: Final = 50
# Seconds after which every break, cooldown, window and idle probe is over.
A_WHILE: Final = 1_000.0


def _guards(*, hedge: bool) -> list[Policy]:
    """The full pipeline."""
    budget = Budget()
    hedges = [Hedge(0.2, budget=budget)] if hedge else []
    return [
        Timeout(30),
        Bulkhead(10),
        Throttle(),
        Retry(3, budget=budget),
        *hedges,
        Cooldown(max_wait=5),
        CircuitBreaker(fail_max=5, timeout=10),
        Timeout(1),
    ]


def _keyed() -> list[Policy]:
    return [
        Fallback(LastGood(60, max_size=KEPT)),
        Timeout(30),
        Keyed(lambda _: Bulkhead(3), key=_key_of, max_keys=KEPT),
        Retry(2, budget=Budget()),
        Keyed(lambda _: CircuitBreaker(fail_max=2, timeout=10), key=_key_of, max_keys=KEPT),
        Timeout(1),
    ]


def _cached() -> list[Policy]:
    return [Timeout(30), Cache(ttl=1, max_size=KEPT), Bulkhead(10), Retry(2, budget=Budget()), Timeout(1)]


def _limits() -> list[Policy]:
    """What measures, and what runs in the general form."""
    return [
        Timeout(30),
        Shed(),
        AdaptiveLimit(initial=10, max_limit=20),
        Retry(2, budget=Budget()),
        Hedge(budget=Budget.unlimited()),
        RateLimit(50, max_wait=2),
        RateLimit(5_000, weight=lambda key: 1 + key % 100, settle=lambda _: 30, max_wait=2),
        Quota(tokens=lambda key: key % 100, usage=lambda _: 30, max_wait=2),
        Outlier(["one", "two", "three"]),
        CircuitBreaker(failure_rate=0.5, slow_rate=0.9, slow_after=0.9, window_seconds=10, timeout=10),
        Timeout(1),
    ]


# With the parts of the calls that go through them.
PIPELINES: Final[dict[str, tuple[float, Callable[[], list[Policy]]]]] = {
    "full": (0.5, lambda: _guards(hedge=False)),
    "hedged": (0.25, lambda: _guards(hedge=True)),
    "keyed": (0.05, _keyed),
    "cached": (0.15, _cached),
    "limits": (0.05, _limits),
}


def _key_of(key: int) -> int:
    return key


class LeftOver(NamedTuple):
    """What there is while nobody calls.

    ``timers``: those in the loop's heap, cancelled ones too. ``held``: places, turns in line, calls in flight as the
    policies' snapshots tell. ``objects``: those that the garbage collector knows. ``blocks``: what the interpreter has
    allocated. ``traced``: bytes, as tracemalloc has it (0 where it is not switched on). ``cycles``: objects that only
    the garbage collector could free after the last part, if it was off meanwhile.
    """

    calls: int
    tasks: int
    timers: int
    held: int
    objects: int
    blocks: int
    traced: int
    cycles: int


class Soak:
    """The workers, the dependency, and how the calls ended."""

    def __init__(self, seed: int, names: tuple[str, ...] = tuple(PIPELINES), keys: int = KEYS) -> None:
        self.chance = random.Random(seed)
        self.pipelines = [Pipeline(name, *PIPELINES[name][1]()) for name in names]
        self.weights = [PIPELINES[name][0] for name in names]
        self.calls = 0
        self.until = 0
        self.keys = keys
        self.ends: dict[str, int] = {}

    async def run(self, calls: int) -> None:
        """So many calls more, and a while for everything to come to rest."""
        self.until = self.calls + calls
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
        await asyncio.sleep(A_WHILE)

    def left_over(self) -> LeftOver:
        """What is left now."""
        cycles = gc.collect()
        loop: Any = asyncio.get_running_loop()
        return LeftOver(
            calls=self.calls,
            tasks=len(asyncio.all_tasks()) - 1,
            timers=len(loop._scheduled),
            held=sum(map(_held, self.pipelines)),
            objects=len(gc.get_objects()),
            blocks=sys.getallocatedblocks(),
            traced=tracemalloc.get_traced_memory()[0],
            cycles=cycles,
        )

    # Callers

    async def _work(self) -> None:
        before = _context()
        while self.calls < self.until:
            self.calls += 1
            (pipeline,) = self.chance.choices(self.pipelines, self.weights)
            chance = self.chance.random()
            key = self.calls % (10 if chance % 0.1 < 0.06 else self.keys)
            how = next(how for share, how in _WAYS if chance < share)
            try:
                await how(self, pipeline, key)
            except Exception as exc:
                self._note(type(exc).__name__)
                if isinstance(exc, Rejected):
                    await asyncio.sleep(self.chance.uniform(0, 2))
            else:
                self._note("success")
        assert _context() == before

    def _note(self, end: str) -> None:
        self.ends[end] = self.ends.get(end, 0) + 1

    async def _plainly(self, pipeline: Pipeline, key: int) -> None:
        await pipeline.call(self._ask, key)

    async def _as_a_value(self, pipeline: Pipeline, key: int) -> None:
        (await pipeline.try_call(self._ask, key)).unwrap()

    async def _in_a_hurry(self, pipeline: Pipeline, key: int) -> None:
        with collect_degradations():
            async with timeout(self.chance.choice((0.0, 0.01, 0.3))):
                await pipeline.call(self._ask, key)

    async def _cancelled(self, pipeline: Pipeline, key: int) -> None:
        task = asyncio.create_task(pipeline.call(self._ask, key))
        await asyncio.sleep(self.chance.choice((0.0, 0.0, 0.01, 0.3, 0.95, 2)))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return
        finally:
            del task  # it keeps its error, which keeps this frame: a cycle

    async def _streamed(self, pipeline: Pipeline, key: int) -> None:
        if pipeline.name in ("cached", "keyed"):  # whose policies refuse streams, or see no key there
            await self._plainly(pipeline, key)
            return
        most = self.chance.choice((0, 1, 9))
        async with contextlib.aclosing(pipeline.stream(self._items, key)) as stream:
            async for item in stream:
                if item == most:
                    break

    # The dependency

    async def _ask(self, key: int) -> int:
        chance = self.chance.random()
        if self.calls % PERIOD < DOWN:
            chance = 1.0
        return await next(how for share, how in _ANSWERS if chance <= share)(self, key)

    async def _at_once(self, key: int) -> int:
        return key

    async def _soon(self, key: int) -> int:
        await asyncio.sleep(self.chance.uniform(0, 0.3))
        return key

    async def _never(self, key: int) -> int:
        await asyncio.get_running_loop().create_future()
        return key

    async def _mistaken(self, key: int) -> int:
        raise KeyError(key)

    async def _too_many(self, key: int) -> int:
        raise StatusError(429, retry_after="0.5")

    async def _down(self, key: int) -> int:
        raise ConnectionError

    async def _items(self, key: int) -> AsyncGenerator[int, None]:
        for number in range(3):
            await self._ask(key)
            yield number


_WAYS: Final[tuple[tuple[float, Callable[[Soak, Pipeline, int], Awaitable[None]]], ...]] = (
    (0.86, Soak._plainly),
    (0.90, Soak._as_a_value),
    (0.93, Soak._in_a_hurry),
    (0.97, Soak._cancelled),
    (1.00, Soak._streamed),
)
_ANSWERS: Final[tuple[tuple[float, Callable[[Soak, int], Awaitable[int]]], ...]] = (
    (0.88, Soak._at_once),
    (0.95, Soak._soon),
    (0.96, Soak._mistaken),
    (0.962, Soak._too_many),
    (0.967, Soak._never),
    (1.00, Soak._down),
)


def _held(pipeline: Pipeline) -> int:
    """What the pipeline's policies hold for calls."""
    shown: Any = [policy.snapshot() for policy in pipeline.policies]
    endpoints = [each for one in shown for each in getattr(one, "endpoints", {}).values()]
    names = ("active", "queued", "waiting", "in_flight", "in_use", "probes")
    return sum(getattr(one, name, 0) for one in [*shown, *endpoints] for name in names)


def _context() -> object:
    """What the context says, to whoever asks. (A closed deadline, and where a call failed last, stay in it unseen.)"""
    seen = (current_deadline(), current_attempt(), current_hedge(), current_endpoint())
    unseen = {"resilience_deadline", "resilience_keyed_failed", "resilience_remembered"}
    held = {variable.name: value for variable, value in contextvars.copy_context().items()}
    return seen, {name: value for name, value in held.items() if name not in unseen and value != ()}
