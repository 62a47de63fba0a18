"""One policy for two event loops in two threads, and for plain functions in others, all at once.

Nobody is counted twice or not at all, no limit is passed, nobody waits for ever, and nothing is held afterwards. The
threads change places often: after every third call or return in the layer, where the interpreter may do it too.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import pytest

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
    Value,
)

LOOPS = 2
TASKS = 10
THREADS = 2
CALLS = 6  # of each task and each thread
PATIENCE = 60.0
LONG = 1e6


@pytest.fixture(autouse=True)
def threads_give_way() -> Iterator[None]:
    threading.setprofile(give_way)
    yield
    threading.setprofile(None)


def give_way(frame: FrameType, event: str, arg: object) -> None:
    """Let another thread go on, at some of the calls and returns in the layer."""
    if "resilience" in frame.f_code.co_filename and random.random() < 1 / 3:
        time.sleep(0)


class Crowd:
    """Everybody who calls, and how it went. ``fails``: the first attempt of each call does."""

    def __init__(self, pipeline: Pipeline, *, plain: bool, fails: bool) -> None:
        self.pipeline = pipeline
        self.plain = plain
        self.fails = fails
        self.calls = LOOPS * TASKS * CALLS + plain * THREADS * CALLS
        self.asked = self.now = self.most = 0
        self.given: list[object] = []
        self.refused: list[Rejected] = []
        self.broken: list[BaseException] = []
        self.seen: set[int] = set()
        self._lock = threading.Lock()

    def run(self) -> None:
        targets = [self._loop] * LOOPS + [self._thread] * (THREADS if self.plain else 0)
        barrier = threading.Barrier(len(targets))

        def begin(target: Callable[[int], None], number: int) -> None:
            barrier.wait(PATIENCE)
            try:
                target(number)
            except BaseException as exc:
                self.broken.append(exc)

        threads = [
            threading.Thread(target=begin, args=(target, number * 1_000), daemon=True)
            for number, target in enumerate(targets)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        assert self.broken == []
        assert len(self.given) + len(self.refused) == self.calls
        assert self.now == 0

    def _loop(self, first: int) -> None:
        async def task(number: int) -> None:
            for call in range(number, number + CALLS):
                try:
                    self.given.append(await self.pipeline.call(self._body, call))
                except Rejected as exc:
                    self.refused.append(exc)

        async def main() -> None:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(task(first + number * CALLS) for number in range(TASKS)))
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())

    def _thread(self, first: int) -> None:
        for call in range(first, first + CALLS):
            try:
                self.given.append(self.pipeline.call_sync(self._plain_body, call))
            except Rejected as exc:
                self.refused.append(exc)

    async def _body(self, call: int) -> str:
        with self._inside(call):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return "fine"

    def _plain_body(self, call: int) -> str:
        with self._inside(call):
            return "fine"

    @contextmanager
    def _inside(self, call: int) -> Iterator[None]:
        with self._lock:
            self.asked += 1
            self.now += 1
            self.most = max(self.most, self.now)
            fails = self.fails and call not in self.seen
            self.seen.add(call)
        try:
            yield
            if fails:
                raise ConnectionError
        finally:
            with self._lock:
                self.now -= 1


class Case(NamedTuple):
    make: Callable[[], list[Policy]]
    check: Callable[[Any, Crowd], bool]
    limit: float = float("inf")
    plain: bool = True
    fails: bool = False


def all_served(crowd: Crowd) -> bool:
    return len(crowd.given) == crowd.asked == crowd.calls


def cold() -> list[Policy]:
    cooldown = Cooldown()
    cooldown.start(LONG)
    return [cooldown]


def closed_door() -> list[Policy]:
    shed = Shed()
    shed.door.threshold = 4.0
    return [shed]


def told() -> list[Policy]:
    quota = Quota(gradual=False)
    name = "x-ratelimit-{}-requests"
    quota.observe({name.format("limit"): "60", name.format("remaining"): "60", name.format("reset"): "1000s"})
    return [quota]


CASES: dict[str, Case] = {
    "bulkhead": Case(
        lambda: [Bulkhead(3, max_queue=1_000, max_wait=PATIENCE)], lambda _, crowd: all_served(crowd), limit=3
    ),
    "bulkhead that refuses": Case(
        lambda: [Bulkhead(3, max_queue=2, max_wait=PATIENCE)],
        lambda bulkhead, crowd: bulkhead.snapshot().rejected == len(crowd.refused),
        limit=3,
    ),
    "adaptive limit": Case(
        lambda: [AdaptiveLimit(initial=3, min_limit=3, max_limit=3, max_queue=5)],
        lambda limit, crowd: (
            crowd.asked == len(crowd.given) and sum(limit.snapshot().rejected.values()) == len(crowd.refused)
        ),
        limit=3,
    ),
    "rate limit": Case(
        lambda: [RateLimit(60, per=LONG, max_wait=0)],
        lambda limit, crowd: (crowd.asked, limit.snapshot().rejected) == (60, crowd.calls - 60),
    ),
    "rate limit by weight": Case(
        lambda: [RateLimit(60, per=LONG, max_wait=0, weight=lambda call: 1, settle=lambda _: 1)],
        lambda limit, crowd: (crowd.asked, limit.snapshot().rejected) == (60, crowd.calls - 60),
    ),
    "rate limit with a line": Case(
        lambda: [RateLimit(2_000, burst=5, max_wait=PATIENCE)], lambda _, crowd: all_served(crowd)
    ),
    "quota": Case(
        told, lambda quota, crowd: (crowd.asked, quota.snapshot().rejected) == (60, crowd.calls - 60)
    ),
    "cooldown": Case(
        cold, lambda cooldown, crowd: cooldown.snapshot().rejected == len(crowd.refused) == crowd.calls
    ),
    "shed": Case(
        closed_door,
        lambda shed, crowd: sum(shed.snapshot().shed.values()) == len(crowd.refused) > 0,
    ),
    "throttle": Case(
        lambda: [Throttle(window=LONG)],
        lambda throttle, crowd: (
            throttle.snapshot().requests == throttle.snapshot().accepts == crowd.calls and all_served(crowd)
        ),
    ),
    "breaker": Case(
        lambda: [CircuitBreaker()],
        lambda breaker, crowd: breaker.snapshot().successes == crowd.calls and all_served(crowd),
    ),
    "breaker that measures": Case(
        lambda: [CircuitBreaker(failure_rate=0.6, window=10_000)],
        lambda breaker, crowd: breaker.snapshot().successes == crowd.calls and all_served(crowd),
    ),
    "retry": Case(
        lambda: [Retry(2, multiplier=0, budget=Budget.unlimited())],
        lambda retry, crowd: crowd.asked == 2 * crowd.calls == 2 * len(crowd.given),
        fails=True,
    ),
    "cache": Case(
        lambda: [Cache(key=lambda call: call % 5)],
        lambda cache, crowd: (
            cache.snapshot().misses == crowd.asked
            and cache.snapshot().misses + cache.snapshot().joined == crowd.calls
        ),
    ),
    "keyed": Case(
        lambda: [Keyed(lambda _: Bulkhead(1, max_queue=1_000, max_wait=PATIENCE), key=lambda call: call % 3)],
        lambda _, crowd: all_served(crowd),
        limit=3,
    ),
    "keyed, with few places for keys": Case(
        lambda: [
            Keyed(
                lambda _: Bulkhead(1, max_queue=1_000, max_wait=PATIENCE),
                key=lambda call: call % 30,
                max_keys=4,
            )
        ],
        lambda _, crowd: all_served(crowd),
        limit=5,
    ),
    "outlier": Case(
        lambda: [Outlier(["one", "two", "three"])],
        lambda _, crowd: all_served(crowd),
    ),
    "fallback": Case(
        lambda: [Fallback(Value("second best"))],
        lambda _, crowd: crowd.given == ["second best"] * crowd.calls,
        fails=True,
    ),
    "timeout": Case(lambda: [Timeout(PATIENCE)], lambda _, crowd: all_served(crowd), plain=False),
    "hedge": Case(
        lambda: [Hedge(1e-6, budget=Budget.unlimited())],
        lambda hedge, crowd: (
            hedge.snapshot().calls == crowd.calls == len(crowd.given)
            and crowd.calls <= crowd.asked <= crowd.calls + hedge.snapshot().started <= 2 * crowd.calls
        ),
        plain=False,
    ),
    "everything": Case(
        lambda: [
            Timeout(PATIENCE),
            Bulkhead(4, max_queue=1_000, max_wait=PATIENCE),
            Throttle(),
            Retry(2, multiplier=0, budget=Budget.unlimited()),
            Hedge(PATIENCE),
            RateLimit(LONG),
            Cooldown(),
            Outlier(["one", "two"]),
            CircuitBreaker(fail_max=10_000),
            Timeout(PATIENCE),
        ],
        lambda _, crowd: crowd.asked == 2 * crowd.calls == 2 * len(crowd.given),
        limit=4,
        plain=False,
        fails=True,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_several_loops_and_threads_share_a_policy(case: Case) -> None:
    policies = case.make()
    crowd = Crowd(Pipeline("svc", *policies), plain=case.plain, fails=case.fails)
    crowd.run()
    assert case.check(policies[0], crowd), (
        crowd.asked,
        len(crowd.given),
        len(crowd.refused),
        policies[0].snapshot(),
    )
    assert crowd.most <= case.limit
    assert held(policies) == 0


def held(policies: list[Policy]) -> int:
    """Places, turns in line and calls in flight, as the snapshots tell."""
    shown: Any = [policy.snapshot() for policy in policies]
    shown += [each for one in shown for each in getattr(one, "endpoints", {}).values()]
    names = ("active", "queued", "waiting", "in_flight", "in_use")
    return sum(getattr(one, name, 0) for one in shown for name in names)
