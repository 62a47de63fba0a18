"""An adaptive limit before a dependency that is asked for more than it can do, in virtual time.

Eight workers, exponential service of 10 ms: 800 calls a second. Callers give up after 200 ms, and only what they still
wait for counts (field survey, section 4.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Criticality,
    Pipeline,
    Rejected,
    TimedOut,
    Timeout,
    criticality,
)
from mcp_server_langgraph.resilience.policy import Policy

CAPACITY = 800.0
DEADLINE = 0.2


class Service:
    """Serves in the order in which calls came; does not notice that a caller has given up."""

    def __init__(self, chance: random.Random, workers: int = 8, mean: float = 0.01) -> None:
        self.chance = chance
        self.idle = workers
        self.mean = mean
        self.queue: deque[asyncio.Future[None]] = deque()

    async def __call__(self) -> None:
        done = asyncio.get_running_loop().create_future()
        self.queue.append(done)
        self._serve()
        await done

    def _serve(self) -> None:
        while self.idle and self.queue:
            self.idle -= 1
            seconds = self.chance.expovariate(1 / self.mean)
            asyncio.get_running_loop().call_later(seconds, self._finish, self.queue.popleft())

    def _finish(self, done: asyncio.Future[None]) -> None:
        self.idle += 1
        if not done.done():
            done.set_result(None)
        self._serve()


async def good_calls(
    load: float, *policies: Policy, until: float, warm_up: float = 1.0, vital: float = 0.0
) -> dict[Criticality, tuple[int, int]]:
    """By criticality, the calls made after the warm-up and those of them that were served in time.

    A part ``vital`` of the calls are CRITICAL_PLUS, the others SHEDDABLE.
    """
    chance = random.Random(7)
    service = Service(chance)
    pipeline = Pipeline("svc", Timeout(DEADLINE), *policies)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    made: Counter[Criticality] = Counter()
    served: Counter[Criticality] = Counter()

    async def one(level: Criticality) -> None:
        counts = loop.time() >= begin + warm_up
        made[level] += counts
        with contextlib.suppress(Rejected, TimedOut), criticality(level):
            await pipeline.call(service)
            served[level] += counts

    tasks: set[asyncio.Task[None]] = set()
    while loop.time() < begin + until:
        level = Criticality.CRITICAL_PLUS if chance.random() < vital else Criticality.SHEDDABLE
        task = asyncio.ensure_future(one(level))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(chance.expovariate(CAPACITY * load))
    await asyncio.gather(*tasks)
    return {level: (made[level], served[level]) for level in made}


async def goodput(load: float, *policies: Policy, until: float, warm_up: float = 1.0) -> float:
    """Calls served in time per second, as a part of the capacity."""
    counts = await good_calls(load, *policies, until=until, warm_up=warm_up)
    return sum(served for _, served in counts.values()) / (until - warm_up) / CAPACITY


@pytest.mark.parametrize(("load", "until"), [(0.95, 4.0), (1.2, 3.5), (2, 2.5), (4, 2.0)])
async def test_overload_costs_less_than_a_tenth_of_the_capacity_without_tuning(
    load: float, until: float
) -> None:
    assert await goodput(load, AdaptiveLimit(chance=random.Random(5).random), until=until) >= 0.9


@pytest.mark.parametrize("algorithm", ["vegas", "aimd"])
async def test_the_other_algorithms_hold_too(algorithm: str) -> None:
    assert await goodput(1.5, AdaptiveLimit(algorithm, chance=random.Random(5).random), until=3.0) >= 0.9


async def test_without_a_limit_everybody_is_late() -> None:
    assert await goodput(1.5, until=3.0) < 0.05


async def test_below_capacity_it_costs_next_to_nothing() -> None:
    limited = await goodput(0.8, AdaptiveLimit(chance=random.Random(5).random), until=4.0)
    unlimited = await goodput(0.8, until=4.0)
    assert limited >= 0.97 * unlimited


async def test_calls_that_matter_are_served_though_twice_the_capacity_is_asked_for() -> None:
    counts = await good_calls(2, AdaptiveLimit(chance=random.Random(5).random), until=2.5, vital=0.3)
    made, served = counts[Criticality.CRITICAL_PLUS]
    assert served >= 0.97 * made
    made, served = counts[Criticality.SHEDDABLE]
    assert 0.05 * made < served < 0.4 * made


async def test_a_guaranteed_share_keeps_what_matters_less_from_starving() -> None:
    policy = AdaptiveLimit(partitions={Criticality.SHEDDABLE: 0.2}, chance=random.Random(5).random)
    counts = await good_calls(2, policy, until=2.5, vital=0.8)
    _, sheddable = counts[Criticality.SHEDDABLE]
    assert sheddable / 1.5 / CAPACITY >= 0.13
    assert sum(served for _, served in counts.values()) / 1.5 / CAPACITY >= 0.9
