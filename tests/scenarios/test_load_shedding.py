"""A server whose event loop is asked for twice what it can do, in virtual time.

Each request keeps the loop busy for 5 ms, so it can serve 200 a second; 400 come. Callers give up after 300 ms.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from mcp_server_langgraph.resilience import Criticality, Overloaded, Pipeline, Shed, criticality
from mcp_server_langgraph.resilience.policy import Policy
from mcp_server_langgraph.resilience.testing import VirtualClockLoop

BUSY = 0.005
PATIENCE = 0.3


async def work() -> None:
    """Keeps the loop busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    loop._set_clock(loop.time() + BUSY)


async def answered(
    *policies: Policy, seconds: float = 15.0, warm_up: float = 6.0
) -> dict[Criticality, float]:
    """By criticality, the part of the requests after the warm-up that were answered in time."""
    chance = random.Random(11)
    pipeline = Pipeline("door", *policies)
    loop = asyncio.get_running_loop()
    made: Counter[Criticality] = Counter()
    good: Counter[Criticality] = Counter()
    tasks: list[asyncio.Task[None]] = []

    async def request(came: float, level: Criticality) -> None:
        with criticality(level):
            try:
                await pipeline.call(work)
            except Overloaded:
                return
        good[level] += came > warm_up and loop.time() - came <= PATIENCE

    def arrive(came: float) -> None:
        level = Criticality.CRITICAL_PLUS if chance.random() < 0.3 else Criticality.SHEDDABLE
        made[level] += came > warm_up
        tasks.append(asyncio.ensure_future(request(came, level)))

    came = 0.0
    while came < seconds:
        came += chance.expovariate(2 / BUSY)
        loop.call_at(came, arrive, came)
    await asyncio.sleep(seconds + 0.1)
    await asyncio.gather(*tasks)
    return {level: good[level] / made[level] for level in made}


async def test_what_matters_is_answered_in_time_and_what_does_not_as_far_as_there_is_room() -> None:
    part = await answered(Shed(chance=random.Random(7).random))
    assert part[Criticality.CRITICAL_PLUS] >= 0.95
    assert 0.15 <= part[Criticality.SHEDDABLE] <= 0.35  # there is room for 0.29


async def test_without_shedding_nobody_is_answered_in_time() -> None:
    assert await answered() == {Criticality.CRITICAL_PLUS: 0, Criticality.SHEDDABLE: 0}
