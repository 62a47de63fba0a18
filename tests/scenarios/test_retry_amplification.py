"""How much more load retries are to a dependency that fails: M. Brooker's simulation of adaptive retries, and the SRE
book's three layers of four attempts (64 times the load without a budget).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from mcp_server_langgraph.resilience import Budget, Pipeline, Retry
from mcp_server_langgraph.resilience._machines.budget import Allowance


class Upstream:
    """Fails so often."""

    def __init__(self, failing: float) -> None:
        self.failing = failing
        self.reached = 0
        self.random = random.Random(1)

    async def __call__(self) -> str:
        self.reached += 1
        await asyncio.sleep(0.01)
        if self.random.random() < self.failing:
            raise ConnectionError
        return "fine"


async def load(
    pipelines: Sequence[Pipeline], failing: float, *, calls: int, rate: float
) -> tuple[float, float]:
    """Calls from all pipelines in turn, at ``rate`` a second: (share that succeeded, requests for each call)."""
    upstream = Upstream(failing)
    tasks: list[asyncio.Task[str]] = []
    chance = random.Random(2)
    for number in range(calls):
        tasks.append(asyncio.ensure_future(pipelines[number % len(pipelines)].call(upstream)))
        await asyncio.sleep(chance.expovariate(rate))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(result == "fine" for result in results) / calls, upstream.reached / calls


def four_attempts(budget: Budget | None = None, *, name: str = "up") -> Pipeline:
    return Pipeline(name, Retry(4, multiplier=0.1, budget=budget))


@pytest.mark.parametrize(
    ("failing", "most_load", "least_success"), [(0.1, 1.25, 0.97), (0.5, 1.25, 0.5), (1.0, 1.25, 0.0)]
)
async def test_load_stays_below_a_quarter_more_whatever_share_fails(
    failing: float, most_load: float, least_success: float
) -> None:
    success, requests = await load([four_attempts()], failing, calls=3000, rate=100)
    assert requests <= most_load
    assert success >= least_success


async def test_without_a_budget_all_attempts_are_made() -> None:
    _, requests = await load([four_attempts(Budget.unlimited())], 1.0, calls=500, rate=100)
    assert requests == 4


async def test_small_clients_that_share_a_budget_do_not_amplify() -> None:
    budget = Budget()
    clients = [four_attempts(budget, name=f"client {number}") for number in range(500)]
    _, requests = await load(clients, 1.0, calls=1000, rate=100)
    assert requests <= 1.25


def test_ten_thousand_clients_apart_amplify_by_their_floor_only_and_not_at_all_without_one() -> None:
    assert 3.5 < apart(10_000, per_second=1.0) <= 4.0
    assert apart(10_000, per_second=0.0) == 1.0
    assert apart(100, per_second=0.0) <= 1.2
    assert apart(10, per_second=1.0) <= 1.25


def apart(clients: int, *, per_second: float) -> float:
    """Requests for each call, where 100 calls a second come from so many clients, each with a budget of its own, for 60
    seconds in which all fail.
    """
    chance = random.Random(3)
    budgets = [Allowance(0.2, per_second, 10.0, began=0.0) for _ in range(clients)]
    reached, now = 0, 0.0
    for _ in range(6000):
        now += chance.expovariate(100)
        budget = chance.choice(budgets)
        reached += 1
        for retry in range(3):
            if not budget.take(now, 0 if retry else 1):
                break
            reached += 1
    return reached / 6000


async def test_three_layers_of_four_attempts_do_not_multiply() -> None:
    upstream = Upstream(1.0)
    layers = [four_attempts(name=name) for name in ("edge", "middle", "leaf")]
    edge, middle, leaf = layers

    async def call_middle() -> str:
        return await middle.call(leaf.call, upstream)

    tasks: list[asyncio.Task[str]] = []
    for _ in range(2000):
        tasks.append(asyncio.ensure_future(edge.call(call_middle)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert upstream.reached / 2000 <= 1.8
