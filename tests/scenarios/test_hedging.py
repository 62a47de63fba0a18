"""The Tail at Scale, in virtual time: what hedges save, what they cost, and that they overload nobody.

The first model is Dean and Barroso's: answers take 10 ms, one in a hundred half a second to one and a half. The second
is where hedging goes wrong: eight servers with a queue each, which do not notice that a request was cancelled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from mcp_server_langgraph.resilience import Budget, Hedge, Pipeline
from mcp_server_langgraph.resilience.testing import run

Work = Callable[[], Awaitable[None]]


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


async def timed(work: Work) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work()
    return loop.time() - began


class Replicas:
    """Answers that are nearly always quick."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.requests = 0

    async def answer(self) -> None:
        self.requests += 1
        slow = self.chance.random() < 0.01
        await asyncio.sleep(
            self.chance.uniform(0.5, 1.5) if slow else max(0.001, self.chance.gauss(0.010, 0.0015))
        )


async def singles(count: int, *policies: Hedge) -> tuple[list[float], float]:
    """Latencies of ``count`` calls one after the other, and requests for each of them."""
    replicas, pipeline = Replicas(1), Pipeline("svc", *policies)
    latencies = [await timed(partial(pipeline.call, replicas.answer)) for _ in range(count)]
    return latencies, replicas.requests / count


async def fan_outs(count: int, *policies: Hedge) -> list[float]:
    """Latencies of ``count`` questions that ask a hundred times each."""
    replicas, pipeline = Replicas(2), Pipeline("svc", *policies)

    async def ask() -> None:
        await asyncio.gather(*(pipeline.call(replicas.answer) for _ in range(100)))

    return [await timed(ask) for _ in range(count)]


def test_two_per_cent_more_requests_take_the_tail_of_single_calls_away() -> None:
    bare, _ = run(singles(8000))
    hedged, requests = run(singles(8000, Hedge(quantile=0.98)))
    assert quantile(bare, 0.999) > 20 * quantile(hedged, 0.999)
    assert quantile(hedged, 0.5) <= quantile(bare, 0.5) * 1.05
    assert requests < 1.022


def test_five_per_cent_more_requests_take_the_tail_of_fan_outs_away() -> None:
    bare = run(fan_outs(60))
    hedge = Hedge(max_hedges=2)
    hedged = run(fan_outs(60, hedge))
    for share in (0.5, 0.95):
        assert quantile(bare, share) > 20 * quantile(hedged, share)
    assert hedge.snapshot().started < 0.05 * hedge.snapshot().calls


class Servers:
    """Eight servers; a request waits in the queue of one, and two in a hundred take twenty times as long."""

    USUAL = 0.010
    MEAN = USUAL * (0.98 + 0.02 * 20)

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.free_at = [0.0] * 8

    async def answer(self) -> None:
        now = asyncio.get_running_loop().time()
        server = self.chance.randrange(8)
        seconds = self.chance.expovariate(1 / self.USUAL) * (20 if self.chance.random() < 0.02 else 1)
        self.free_at[server] = max(now, self.free_at[server]) + seconds
        await asyncio.sleep(self.free_at[server] - now)


async def under_load(busy: float, count: int, *policies: Hedge) -> list[float]:
    """Latencies of ``count`` calls that come as they come, so many that the servers are ``busy`` without hedges."""
    servers, pipeline, chance = Servers(3), Pipeline("svc", *policies), random.Random(4)
    calls = []
    for _ in range(count):
        calls.append(asyncio.ensure_future(timed(partial(pipeline.call, servers.answer))))
        await asyncio.sleep(chance.expovariate(busy * 8 / Servers.MEAN))
    return await asyncio.gather(*calls)


@pytest.mark.parametrize("busy", [0.4, 0.6, 0.8, 0.9])
def test_under_load_hedges_overload_nobody(busy: float) -> None:
    bare = run(under_load(busy, 2000))
    hedged = run(under_load(busy, 2000, Hedge()))
    assert quantile(hedged, 0.5) < 1.5 * quantile(bare, 0.5)
    assert quantile(hedged, 0.99) < 1.25 * quantile(bare, 0.99)


def test_with_a_fixed_delay_and_no_budget_they_would() -> None:
    bare = run(under_load(0.6, 4000))
    hedged = run(under_load(0.6, 4000, Hedge(0.127, budget=Budget.unlimited())))
    assert quantile(hedged[2000:], 0.5) > 10 * quantile(bare[2000:], 0.5)
