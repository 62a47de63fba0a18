"""Every policy, and every way in which a call can end: what was taken comes back, once, and each end is counted once.

Beside `test_every_permit_ends_once`, which explores orders of a few of these, here are all policies, alone and
together, and all endings: calls that are abandoned to the garbage collector, and a loop that is shut down, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Budget,
    Bulkhead,
    Cache,
    CircuitBreaker,
    CircuitOpen,
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
    Retry,
    Shed,
    Throttle,
    Timeout,
)
from mcp_server_langgraph.resilience._machines import timers
from mcp_server_langgraph.resilience.testing import explore, run

# Seconds: longer than any break or wait, and longer than anything here takes.
A_WHILE = 1_000.0
LONG = 1e9
MANY = 50.0


@pytest.fixture(autouse=True)
def no_queues_of_closed_loops() -> None:
    """Other tests close loops under calls on purpose."""
    timers._queues.clear()


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """The garbage collector looks at what is made here only."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Dependency:
    """Counts: ``asked`` for calls begun, ``answered`` for answers and failures of its own."""

    def __init__(self) -> None:
        self.asked = self.answered = self.running = 0
        self.error: Exception | None = None
        self.lasts = 0.1

    async def __call__(self) -> str:
        async for _ in self.items():
            pass
        return "fine"

    async def plainly(self) -> None:
        self.asked += 1
        self.running += 1
        try:
            await asyncio.sleep(self.lasts)
        finally:
            self.running -= 1

    async def items(self) -> AsyncGenerator[int, None]:
        self.asked += 1
        self.running += 1
        try:
            await asyncio.sleep(self.lasts)
            yield 1
            yield 2
            self.answered += self.error is None or isinstance(self.error, ConnectionError)
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1


def told() -> Quota:
    quota = Quota(gradual=False, max_wait=5)
    left = {"limit": "50", "remaining": "50", "reset": f"{LONG:.0f}s"}
    quota.observe({f"x-ratelimit-{what}-requests": value for what, value in left.items()})
    return quota


def half_open() -> CircuitBreaker:
    """The next call is a probe, and so is each after it."""
    breaker = CircuitBreaker(fail_max=1, timeout=1, lease=LONG, success_threshold=100)
    breaker.machine.open(-math.inf, "fail_max")
    return breaker


def cooling() -> Cooldown:
    cooldown = Cooldown(max_wait=10)
    cooldown.start(0.5)
    return cooldown


def fused() -> list[Policy]:
    return [
        Timeout(50),
        Bulkhead(1),
        Throttle(window=LONG),
        Retry(2, multiplier=0, budget=Budget.unlimited()),
        cooling(),
        RateLimit(MANY, per=LONG),
        half_open(),
        Timeout(5),
    ]


def general() -> list[Policy]:
    return [
        Fallback(LastGood(10)),
        Timeout(50),
        Shed(),
        AdaptiveLimit(initial=1, min_limit=1, max_limit=1, max_queue=5),
        Throttle(window=LONG),
        Retry(2, multiplier=0, budget=Budget.unlimited()),
        Hedge(60),
        told(),
        RateLimit(MANY, per=LONG, weight=lambda: 1, settle=lambda _: 1),
        Keyed(lambda _: Bulkhead(1), key=lambda: "key"),
        Outlier(["one", "two"]),
        half_open(),
        Timeout(5),
    ]


MAKERS: dict[str, Callable[[], list[Policy]]] = {
    "adaptive limit": lambda: [AdaptiveLimit(initial=1, min_limit=1, max_limit=1, max_queue=5)],
    "bulkhead": lambda: [Bulkhead(1)],
    "cache": lambda: [Cache(max_age=0)],
    "cooldown": lambda: [cooling()],
    "fallback": lambda: [Fallback(LastGood(10))],
    "half-open breaker": lambda: [half_open()],
    "hedge": lambda: [Hedge(60)],
    "hedge that begins": lambda: [Hedge(0.01, budget=Budget.unlimited())],
    "keyed bulkhead": lambda: [Keyed(lambda _: Bulkhead(1), key=lambda: "key")],
    "keyed breaker": lambda: [Keyed(lambda _: half_open(), key=lambda: "key")],
    "keyed rate limit": lambda: [Keyed(lambda _: RateLimit(MANY, per=LONG), key=lambda: "key")],
    "outlier": lambda: [Outlier(["one", "two"])],
    "quota": lambda: [told()],
    "rate limit": lambda: [RateLimit(MANY, per=LONG)],
    "rate limit by weight": lambda: [RateLimit(MANY, per=LONG, weight=lambda: 1, settle=lambda _: 1)],
    "rate limit with a line": lambda: [RateLimit(1, per=0.5, max_wait=10)],
    "rate limit by weight, with a line": lambda: [RateLimit(1, per=0.5, max_wait=10, weight=lambda: 1)],
    "retry": lambda: [Retry(2, multiplier=0, budget=Budget.unlimited())],
    "shed": lambda: [Shed()],
    "throttle": lambda: [Throttle(window=LONG)],
    "timeout": lambda: [Timeout(50)],
    "all that is fused": fused,
    "all in the general form": general,
}


class Program:
    """A pipeline, what it guards, and the ends of calls."""

    def __init__(self, make: Callable[[], list[Policy]]) -> None:
        self.pipeline = Pipeline("s", *make())
        self.service = Dependency()

    async def quietly(self) -> None:
        with contextlib.suppress(Exception):
            await self.pipeline.call(self.service)

    async def read(self, most: int) -> None:
        with contextlib.suppress(Exception):
            async with contextlib.aclosing(self.pipeline.stream(self.service.items)) as stream:
                async for item in stream:
                    if item == most:
                        break

    async def success(self) -> None:
        await asyncio.gather(self.quietly(), self.quietly())

    async def error(self) -> None:
        self.service.error = ConnectionError()
        await asyncio.gather(self.quietly(), self.quietly())

    async def bug(self) -> None:
        self.service.error = KeyError()
        await asyncio.gather(self.quietly(), self.quietly())

    async def refused_inside(self) -> None:
        self.service.error = CircuitOpen("inner", 1)
        await self.quietly()

    async def cancelled(self) -> None:
        """One while it runs, one (where there is something to wait for) while it waits, at several moments."""
        for moment in (0.0, 0.05, 0.3, 0.55):
            tasks = [asyncio.create_task(self.quietly()) for _ in range(3)]
            await asyncio.sleep(moment)
            tasks[1].cancel()
            await asyncio.sleep(0)
            tasks[0].cancel()
            await asyncio.wait(tasks)

    async def stream_read_to_its_end(self) -> None:
        await self.read(9)

    async def stream_closed_early(self) -> None:
        await self.read(1)

    async def stream_that_breaks(self) -> None:
        self.service.error = ConnectionError()
        await self.read(9)

    async def stream_that_is_cancelled(self) -> None:
        for moment in (0.0, 0.05, 0.55):
            task = asyncio.create_task(self.read(9))
            await asyncio.sleep(moment)
            task.cancel()
            await asyncio.wait([task])

    async def stream_that_is_abandoned(self) -> None:
        """asyncio closes what the garbage collector finds, in a task of its own."""
        stream = self.pipeline.stream(self.service.items)
        with contextlib.suppress(Exception):
            await anext(stream)
        del stream
        gc.collect()
        await asyncio.sleep(1)

    async def abandoned(self) -> None:
        """Coroutines that were begun and are never gone on with; where only one may run, the other one waits."""
        for order in (0, 1):
            calls: list[Any] = [self.pipeline.call(self.service.plainly) for _ in range(2)]
            for call in calls:
                with contextlib.suppress(CircuitOpen):
                    contextvars.copy_context().run(call.send, None)
            del call, calls[order]
            gc.collect()
            await asyncio.sleep(1)
            del calls[0]
            gc.collect()
            await asyncio.sleep(1)

    async def loop_shut_down(self) -> None:
        self.left = [asyncio.create_task(self.quietly()) for _ in range(3)]
        await asyncio.sleep(0.05)

    async def loop_shut_down_with_streams(self) -> None:
        self.left = [asyncio.create_task(self.read(9)) for _ in range(2)]
        await asyncio.sleep(0.05)

    def check(self) -> None:
        """Nothing is held, and what was taken and counted is what was asked."""
        policies = [
            *self.pipeline.policies,
            *(part for each in self.pipeline.policies for part in each.parts()),
        ]
        assert self.service.running == 0
        assert held(self.pipeline, policies) == []
        for queues in list(timers._queues.values()):
            assert not any(queue.entries for queue in queues.values())

    def check_counts(self, refunded: int) -> None:
        kinds = {policy.kind: policy for policy in self.pipeline.policies}
        taken = self.service.asked - refunded
        limit, quota, throttle = (kinds.get(kind) for kind in ("rate_limit", "quota", "throttle"))
        if isinstance(limit, RateLimit) and limit.rate[0] == MANY:
            assert limit.snapshot().left == pytest.approx(MANY - taken, abs=0.001)
        if isinstance(quota, Quota):
            assert quota.snapshot().left["requests"] == MANY - taken
        if isinstance(throttle, Throttle) and "retry" not in kinds:
            assert throttle.snapshot().requests == self.service.answered


def held(pipeline: Pipeline, policies: list[Policy]) -> list[str]:
    """What the policies hold for calls, as far as snapshots tell, and what they keep of them inside."""
    shown: Any = [policy.snapshot() for policy in policies]
    shown += [each for one in shown for each in getattr(one, "endpoints", {}).values()]
    names = ("active", "queued", "waiting", "in_flight", "in_use", "probes")
    found = [f"{type(one).__name__}.{name}" for one in shown for name in names if getattr(one, name, 0)]
    for at in (*pipeline.bound, *policies):
        if getattr(at, "_running", None):
            found.append("a call at an endpoint")
        if isinstance(at, RateLimit) and at.bucket._opened:
            found.append("a reservation of permits")
        if isinstance(at, Quota) and at.machine._under_way:
            found.append("a reservation of a quota")
    return found


ENDINGS: list[Callable[[Program], Awaitable[None]]] = [
    Program.success,
    Program.error,
    Program.bug,
    Program.refused_inside,
    Program.cancelled,
    Program.stream_read_to_its_end,
    Program.stream_closed_early,
    Program.stream_that_breaks,
    Program.stream_that_is_cancelled,
    Program.stream_that_is_abandoned,
    Program.abandoned,
    Program.loop_shut_down,
    Program.loop_shut_down_with_streams,
]


def possible(name: str, end: Callable[[Program], Awaitable[None]]) -> bool:
    """A cache guards no streams; and what a hedge interrupts where it wins is the task that began the call: us."""
    if name == "cache":
        return "stream" not in end.__name__
    return (name, end) != ("hedge that begins", Program.abandoned)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        pytest.param(name, end, id=f"{name}, {end.__name__}")
        for name in MAKERS
        for end in ENDINGS
        if possible(name, end)
    ],
)
def test_what_was_taken_comes_back(name: str, end: Callable[[Program], Awaitable[None]]) -> None:
    made: list[Program] = []

    async def begin() -> None:
        made.append(Program(MAKERS[name]))
        await end(made[0])

    run(begin())
    gc.collect()
    (program,) = made
    program.check()

    async def later() -> None:
        program.check_counts(refunded=program.service.asked if end is Program.refused_inside else 0)
        program.service.error = None
        asked = program.service.asked
        assert await program.pipeline.call(program.service) == "fine"
        assert program.service.asked > asked
        await asyncio.sleep(A_WHILE)
        program.check()

    run(later(), start=A_WHILE)


@pytest.mark.parametrize("name", MAKERS)
def test_and_so_it_does_in_every_order_of_steps_that_was_explored(name: str) -> None:
    async def main() -> None:
        program = Program(MAKERS[name])
        callers = [asyncio.create_task(program.quietly()) for _ in range(3)]

        async def cancel(number: int) -> None:
            await asyncio.sleep(0.1)  # the moment at which the first answers come
            callers[number].cancel()

        cancellers = [asyncio.create_task(cancel(number)) for number in (0, 1)]
        await asyncio.wait([*callers, *cancellers])
        program.check()
        program.check_counts(refunded=0)

    assert explore(main, max_runs=25).runs == 25
