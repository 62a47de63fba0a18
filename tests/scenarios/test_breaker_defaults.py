"""What a breaker's defaults do to real traffic: how soon it opens, what it costs when it need not, and the crowd that
comes back when it closes. The figures stand in `docs/reference/policies/circuit-breaker.md`.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Retry,
    Timeout,
)
from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules

# As the defaults of others are (survey 4.6): ours, Polly's, resilience4j's, and what we advise for a busy dependency.
OURS = BreakerRules()
POLLY = BreakerRules(fail_max=0, failure_rate=0.1, window_seconds=30, minimum_calls=100)
RESILIENCE4J = BreakerRules(fail_max=0, failure_rate=0.5, window=100, minimum_calls=100)
BUSY = BreakerRules(fail_max=0, failure_rate=0.5, window_seconds=30)


@pytest.mark.parametrize(
    ("rules", "lost"),
    [
        (OURS, {1: 5, 10: 5, 100: 5, 1000: 5}),
        (BUSY, {1: 20, 10: 20, 100: 20, 1000: 20}),
        (RESILIENCE4J, {1: 100, 10: 100, 100: 100, 1000: 100}),
        (POLLY, {1: None, 10: 100, 100: 100, 1000: 100}),
    ],
    ids=["ours", "busy", "resilience4j", "Polly"],
)
@pytest.mark.parametrize("rate", [1, 10, 100, 1000])
def test_calls_lost_before_an_outage_opens_the_breaker(
    rules: BreakerRules, lost: dict[int, int | None], rate: int
) -> None:
    machine = BreakerMachine(rules)
    for number in range(1, 1001):
        admission = machine.admit(number / rate)
        if admission is None:
            assert number - 1 == lost[rate]
            return
        machine.failed(admission, number / rate)
    assert lost[rate] is None


def refused_at(rules: BreakerRules, rate: int, failing: float, calls: int) -> float:
    """The share of calls that a breaker refuses before a dependency that fails a part of them, evenly by chance."""
    machine, chance, refused = BreakerMachine(rules), random.Random(30), 0
    for number in range(calls):
        now = number / rate
        admission = machine.admit(now)
        if admission is None:
            refused += 1
        elif chance.random() < failing:
            machine.failed(admission, now)
        else:
            machine.succeeded(admission, now)
    return refused / calls


@pytest.mark.parametrize(
    ("rules", "rate", "least", "most"),
    [
        (OURS, 1, 0.0, 0.002),
        (OURS, 10, 0.0, 0.02),
        (OURS, 100, 0.0, 0.12),
        (BUSY, 100, 0.0, 0.0),
        (BUSY, 1000, 0.0, 0.0),
        (POLLY, 100, 0.5, 1.0),
    ],
    ids=["ours at 1/s", "ours at 10/s", "ours at 100/s", "busy at 100/s", "busy at 1000/s", "Polly at 100/s"],
)
def test_one_call_in_ten_that_fails_is_no_outage(
    rules: BreakerRules, rate: int, least: float, most: float
) -> None:
    assert least <= refused_at(rules, rate, failing=0.1, calls=150_000) <= most


@pytest.mark.parametrize(
    ("options", "reached"),
    [({}, 505), ({"slow_rate": 0.5, "slow_after": 1.0}, 120)],
    ids=["failures only", "slow calls too"],
)
async def test_a_dependency_that_hangs_is_left_alone_before_the_first_timeouts(
    options: dict[str, Any], reached: int
) -> None:
    breaker = CircuitBreaker("svc", **options)
    pipeline = Pipeline("svc", Retry(1), breaker, Timeout(5.0))
    asked = 0

    async def hang() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1000)

    calls = []
    for _ in range(600):
        calls.append(asyncio.ensure_future(pipeline.call(hang)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*calls, return_exceptions=True)
    assert breaker.state == "open"
    assert asked == pytest.approx(reached, abs=3)


class Crowd:
    """A dependency that stands 200 calls at once, was down, and has 1000 waiting for it."""

    def __init__(self, *outer: Any, ramp: float) -> None:
        self.breaker = CircuitBreaker("svc", timeout=10, ramp=ramp, backoff=1)
        self.pipeline = Pipeline("svc", *outer, self.breaker)
        self.at_once = self.most = self.failures = 0

    async def work(self) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.at_once > 200:
                self.failures += 1
                raise ConnectionError
            await asyncio.sleep(0.5)
        finally:
            self.at_once -= 1

    async def wait(self) -> None:
        """Calls until it is served, coming back when it is told to, else every second."""
        while True:
            try:
                return await self.pipeline.call(self.work)
            except CircuitOpen as refused:
                await asyncio.sleep(refused.retry_after or 1.0)
            except (BulkheadFull, ConnectionError):
                await asyncio.sleep(1.0)

    async def come(self) -> float:
        """All of them at once, to an open breaker; gives the seconds until the last one is served."""
        time = asyncio.get_running_loop().time
        began = time()
        self.breaker.machine.open(began, "fail_max")
        await asyncio.gather(*(self.wait() for _ in range(1000)))
        return time() - began


async def test_without_a_ramp_the_crowd_that_waited_throws_the_dependency_down_again() -> None:
    crowd = Crowd(ramp=0)
    await crowd.come()
    assert crowd.most > 200
    assert crowd.breaker.snapshot().reopenings > 0 or crowd.failures >= 5


async def test_with_a_ramp_the_crowd_comes_bit_by_bit() -> None:
    crowd = Crowd(ramp=10)
    seconds = await crowd.come()
    assert (crowd.failures, crowd.most <= 150) == (0, True)
    assert seconds < 25


async def test_a_bulkhead_outside_bounds_the_crowd_without_a_ramp() -> None:
    crowd = Crowd(Bulkhead(50), ramp=0)
    seconds = await crowd.come()
    assert (crowd.failures, crowd.most) == (0, 50)
    assert seconds < 35
