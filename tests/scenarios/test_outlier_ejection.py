"""Ten endpoints, some of them sick: what callers see with ejection and without it, in virtual time.

Sixty calls a second for a minute, each sent once, with an attempt timeout of half a second; a well endpoint answers
after 20 to 60 ms. Field survey, section 4.6.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from mcp_server_langgraph.resilience import (
    Budget,
    Hedge,
    Outlier,
    OutlierRules,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    current_endpoint,
)

HOSTS = tuple(f"host {number}" for number in range(10))
CALLS, EVERY = 3600, 1 / 60


@dataclass
class Seen:
    """What the callers saw, and where they were sent."""

    good: int = 0
    times: list[float] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOSTS, 0))
    fewest_in_rotation: int = len(HOSTS)

    @property
    def success(self) -> float:
        return self.good / len(self.times)

    @property
    def p99(self) -> float:
        return sorted(self.times)[int(0.99 * len(self.times))]


async def calls_to(
    sick: int, *, failing: float = 0.0, slower: float = 1.0, max_share: float = 0.1, pick: str = "round_robin"
) -> Seen:
    """A minute of calls to ten hosts, of which the first ``sick`` fail or are slow."""
    chance = random.Random(7)
    outlier = Outlier(
        HOSTS, pick=pick, rules=OutlierRules(max_share=max_share, min_requests=50), chance=chance.random
    )
    pipeline = Pipeline("fleet", outlier, Timeout(0.5))
    seen = Seen()
    time = asyncio.get_running_loop().time

    async def answer() -> None:
        endpoint = current_endpoint()
        assert endpoint is not None
        seen.sent[endpoint] += 1
        is_sick = HOSTS.index(endpoint) < sick
        await asyncio.sleep(chance.uniform(0.02, 0.06) * (slower if is_sick else 1))
        if is_sick and chance.random() < failing:
            raise ConnectionError

    async def caller() -> None:
        began = time()
        try:
            await pipeline.call(answer)
            seen.good += 1
        except (ConnectionError, TimedOut):
            pass
        seen.times.append(time() - began)

    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLS):
            callers.create_task(caller())
            seen.fewest_in_rotation = min(seen.fewest_in_rotation, len(outlier.endpoints.rotation))
            await asyncio.sleep(EVERY)
    return seen


async def test_one_of_ten_that_fails_half_its_calls_is_taken_out() -> None:
    without = await calls_to(1, failing=0.5, max_share=0)
    ejecting = await calls_to(1, failing=0.5)

    assert without.success < 0.96
    assert ejecting.success > 0.98
    assert ejecting.sent["host 0"] < without.sent["host 0"] / 2
    assert ejecting.fewest_in_rotation == 9


async def test_one_of_ten_that_is_ten_times_slower_is_cut_and_taken_out() -> None:
    without = await calls_to(1, slower=10, max_share=0)
    ejecting = await calls_to(1, slower=10)

    assert without.success < 0.98
    assert ejecting.success > 0.985
    assert ejecting.sent["host 0"] < without.sent["host 0"] / 2
    slow = [sum(seconds > 0.1 for seconds in seen.times) for seen in (without, ejecting)]
    assert slow[1] < slow[0] / 2


async def test_three_of_ten_that_are_dead_are_all_out_by_default() -> None:
    tenth = await calls_to(3, failing=1.0, max_share=0.1)
    default = await calls_to(3, failing=1.0, max_share=OutlierRules().max_share)

    assert tenth.success < 0.8  # Envoy's share takes one of the three out
    assert default.success > 0.98
    assert default.fewest_in_rotation == 7


async def test_six_of_ten_that_are_sick_do_not_empty_the_pool() -> None:
    seen = await calls_to(6, failing=1.0, max_share=0.1)
    assert seen.fewest_in_rotation == 9
    assert all(count > CALLS / 20 for host, count in seen.sent.items() if HOSTS.index(host) >= 6)

    panicking = await calls_to(6, failing=1.0, max_share=1.0)
    assert panicking.fewest_in_rotation >= 5  # with fewer left all ten are used
    assert all(panicking.sent.values())


async def test_the_least_busy_of_two_avoids_the_slow_one_before_anything_is_judged() -> None:
    round_robin = await calls_to(1, slower=10, max_share=0, pick="round_robin")
    two_choices = await calls_to(1, slower=10, max_share=0, pick="power_of_two")
    assert two_choices.success > round_robin.success
    assert two_choices.sent["host 0"] < round_robin.sent["host 0"] * 0.75


async def test_a_hedge_and_its_retry_go_where_the_call_has_not_been() -> None:
    sent: list[str | None] = []

    async def answer() -> str | None:
        endpoint = current_endpoint()
        sent.append(endpoint)
        if endpoint == "host 0":
            await asyncio.sleep(10)
        if endpoint == "host 1":
            raise ConnectionError
        return endpoint

    pipeline = Pipeline(
        "fleet",
        Retry(max_attempts=2, budget=Budget.unlimited()),
        Hedge(delay=0.1, budget=Budget.unlimited()),
        Outlier(HOSTS[:3], chance=lambda: 0.0),
        Timeout(1),
    )
    assert await pipeline.call(answer) == "host 2"
    assert sent == ["host 0", "host 1", "host 2"]
