"""A hundred replicas with traffic, in virtual time, over a place that loses and delays what they say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.shared_replicas import Place, PlaceLink, Replica

REPLICAS = 100
KNOWN_WITHIN = 1.0
BREAK = 3.0


class World(Replica):
    """Replicas of this test."""


@pytest.fixture(autouse=True)
def _up() -> None:
    World.down = False


@contextlib.asynccontextmanager
async def service(
    place: Place, *, busy: int = REPLICAS, losses: float = 0.0, interval: float = 0.2
) -> AsyncIterator[list[World]]:
    """A hundred replicas; the first ``busy`` of them have traffic."""
    links = [PlaceLink(place, f"replica {index}", losses=losses, delay=0.05) for index in range(REPLICAS)]
    replicas = [World(link, rate=5.0, timeout=BREAK, interval=interval) for link in links]
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            await stack.enter_async_context(replica.state)
        traffic = [asyncio.create_task(replica.traffic()) for replica in replicas[:busy]]
        await asyncio.sleep(4 * interval)
        yield replicas
        for task in traffic:
            task.cancel()
        await asyncio.wait(traffic)


async def seconds_until(condition: Callable[[], bool], within: float = 10.0) -> float:
    """How long it took."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - began


def quorum(replicas: list[World]) -> bool:
    """Whether enough have opened by their own evidence: two, and more than those whose last call succeeded."""
    machines = [replica.breaker.machine for replica in replicas]
    votes = sum(machine.because == "fail_max" for machine in machines)
    busy = [replica for replica in replicas if replica.breaker.counts.successes]
    well = sum(replica.breaker.state == "closed" and not replica.breaker.machine.failures for replica in busy)
    return votes >= 2 and votes > well


async def test_one_sick_replica_of_a_hundred_opens_its_own_circuit_only() -> None:
    async with service(Place(), interval=0.5) as replicas:
        replicas[0].sick = True
        await seconds_until(lambda: replicas[0].is_open)
        await asyncio.sleep(2 * BREAK)
        assert sum(replica.breaker.counts.transitions.get("open", 0) for replica in replicas[1:]) == 0


@pytest.mark.parametrize("busy", [20, 100])
async def test_a_dead_dependency_is_known_everywhere_within_a_second_of_the_quorum(busy: int) -> None:
    async with service(Place(), busy=busy) as replicas:
        World.down = True
        await seconds_until(lambda: quorum(replicas))
        assert await seconds_until(lambda: all(replica.is_open for replica in replicas)) <= KNOWN_WITHIN
        idle = replicas[busy:]
        assert {replica.because for replica in idle} <= {"quorum"}
        assert sum(replica.tried for replica in idle) == 0


async def test_with_a_tenth_of_what_is_said_lost_it_is_known_everywhere_all_the_same() -> None:
    async with service(Place(), busy=20, losses=0.1) as replicas:
        World.down = True
        await seconds_until(lambda: quorum(replicas))
        # One lost exchange costs its timeout and a pause: some learn later, nobody never.
        assert await seconds_until(lambda: all(replica.is_open for replica in replicas)) <= 2.5 * KNOWN_WITHIN


async def test_nothing_is_stuck_after_an_outage_a_partition_and_a_dead_place() -> None:
    place = Place()
    async with service(place, interval=0.5) as replicas:
        World.down = True
        await seconds_until(lambda: all(replica.is_open for replica in replicas))
        place.cut_off = {f"replica {index}" for index in range(0, REPLICAS, 2)}
        await asyncio.sleep(BREAK)
        place.refuses = True
        await asyncio.sleep(1)
        World.down = False
        await seconds_until(lambda: all(replica.breaker.state == "closed" for replica in replicas))

        place.cut_off, place.refuses = set(), False
        opened = [replica.breaker.counts.transitions["open"] for replica in replicas]
        await asyncio.sleep(2 * BREAK)
        assert all(replica.breaker.state == "closed" for replica in replicas)
        assert [replica.breaker.counts.transitions["open"] for replica in replicas] == opened
        assert {replica.state.snapshot().replicas for replica in replicas} == {REPLICAS - 1}
