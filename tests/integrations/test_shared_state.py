"""Shared state among few replicas, in virtual time over a place in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Mapping

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    ConfigurationError,
    Event,
    Pipeline,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.shared_replicas import Place, PlaceLink, Replica

LEASE = 3.0
ROUND = 0.25  # all have told and heard once
KNOWN = 3 * ROUND  # all have told what is new, and all have heard it


class World(Replica):
    """Replicas of one test."""


@pytest.fixture(autouse=True)
def _up() -> None:
    World.down = False


@contextlib.asynccontextmanager
async def replicas(number: int, place: Place | None = None, **options: float) -> AsyncIterator[list[World]]:
    """So many that know each other."""
    place = place or Place()
    async with contextlib.AsyncExitStack() as stack:
        each = [World(PlaceLink(place, f"replica {index}"), **options) for index in range(number)]
        for replica in each:
            await stack.enter_async_context(replica.state)
        await asyncio.sleep(4 * ROUND)
        assert [replica.state.snapshot().replicas for replica in each] == [number - 1] * number
        yield each


async def test_one_sick_replica_opens_its_own_circuit_only() -> None:
    async with replicas(5) as (sick, *others):
        sick.sick = True
        for replica in (sick, *others):
            await replica.calls(5)
        await asyncio.sleep(KNOWN)
        assert sick.is_open
        assert not any(replica.is_open for replica in others)


async def test_one_sick_replica_opens_no_idle_one_either() -> None:
    async with replicas(5) as (sick, *others):
        sick.sick = True
        await sick.calls(5)
        await asyncio.sleep(KNOWN)
        assert sick.is_open
        assert not any(replica.is_open for replica in others)


async def test_the_second_opening_tells_everyone_that_the_dependency_is_down() -> None:
    async with replicas(5) as (first, second, *idle):
        World.down = True
        await first.calls(5)
        await asyncio.sleep(KNOWN)
        assert not any(replica.is_open for replica in idle)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert all(replica.is_open for replica in idle)
        assert {replica.because for replica in idle} == {"quorum"}
        assert [replica.opened_by_others for replica in (first, *idle)] == [0, 1, 1, 1]


async def test_two_sick_replicas_are_no_quorum_where_more_are_well() -> None:
    async with replicas(5) as (first, second, *well):
        first.sick = second.sick = True
        for replica in (first, second, *well):
            await replica.calls(5)
        await asyncio.sleep(KNOWN)
        assert not any(replica.is_open for replica in well)


async def test_who_fails_is_no_witness_that_the_dependency_is_well() -> None:
    async with replicas(5) as (first, second, *others):
        for replica in others:
            await replica.calls(1)
        World.down = True
        for replica in others:
            await replica.calls(1)
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert all(replica.is_open for replica in others)


async def test_a_success_of_long_ago_is_none_either() -> None:
    async with replicas(5) as (first, second, *others):
        for replica in others:
            await replica.calls(1)
        World.down = True
        await asyncio.sleep(11)
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert all(replica.is_open for replica in others)


async def test_one_that_opened_on_the_word_of_others_probes_for_itself_and_stays_closed() -> None:
    async with replicas(3, timeout=20) as (first, second, well):
        first.sick = second.sick = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert well.is_open
        await asyncio.sleep(20)
        assert await well.call()
        assert well.breaker.state == "closed"
        await asyncio.sleep(KNOWN)
        assert well.breaker.state == "closed"


async def test_votes_that_its_own_probe_has_answered_open_it_no_more() -> None:
    async with replicas(3, timeout=60) as (first, second, well):
        first.sick = second.sick = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert well.is_open
        well.breaker.reset()
        await asyncio.sleep(5)
        assert not well.is_open
        assert first.is_open


async def test_what_was_told_is_not_told_on() -> None:
    place = Place()
    async with replicas(2, place, timeout=5) as (first, second):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        async with replicas_joining(place, 20, timeout=5) as late:
            await asyncio.sleep(KNOWN)
            assert all(replica.is_open for replica in late)
            await asyncio.sleep(5 + KNOWN)
            # The two openings are over; had the twenty voted for what they were told, it would have no end.
            World.down = False
            assert all([await replica.call() for replica in late])


async def test_those_who_believed_others_do_not_keep_each_other_open() -> None:
    async with replicas(5) as (first, second, *idle):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert all(replica.is_open for replica in idle)
        World.down = False
        first.breaker.reset()
        second.breaker.reset()
        await asyncio.sleep(KNOWN)
        assert all([await replica.call() for replica in idle])


async def test_a_breaker_that_leaves_its_last_pipeline_no_longer_believes_others() -> None:
    place, loop = Place(), asyncio.get_running_loop()
    voters, breaker = [CircuitBreaker("ours") for _ in range(2)], CircuitBreaker("ours")
    pipeline: Pipeline | None = Pipeline("ours", breaker)
    async with contextlib.AsyncExitStack() as stack:
        for voter in voters:
            await stack.enter_async_context(SharedState(PlaceLink(place), policies=[voter]))
        await stack.enter_async_context(SharedState(PlaceLink(place)))
        await asyncio.sleep(4 * ROUND)
        for voter in voters:
            voter.machine.open(loop.time(), "fail_max")
        await asyncio.sleep(KNOWN)
        assert breaker.machine.refuses_for(loop.time()) > 50
        del pipeline
        gc.collect()
        await asyncio.sleep(1.5)
        assert breaker.machine.refuses_for(loop.time()) == 0


@contextlib.asynccontextmanager
async def replicas_joining(place: Place, number: int, **options: float) -> AsyncIterator[list[World]]:
    async with contextlib.AsyncExitStack() as stack:
        each = [World(PlaceLink(place, f"late {index}"), **options) for index in range(number)]
        for replica in each:
            await stack.enter_async_context(replica.state)
        yield each


async def test_a_replica_that_starts_while_the_dependency_is_down_learns_it_at_once() -> None:
    place = Place()
    async with replicas(2, place) as (first, second):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        async with replicas_joining(place, 1) as (late,):
            await asyncio.sleep(KNOWN)
            assert late.is_open
            assert late.tried == 0


async def test_when_the_voters_find_it_well_again_the_others_may_try_at_once() -> None:
    async with replicas(3) as (first, second, idle):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        assert idle.is_open
        World.down = False
        first.breaker.reset()
        await asyncio.sleep(KNOWN)
        assert await idle.call()


@pytest.mark.parametrize("what", ["hangs", "refuses"])
async def test_with_the_place_down_each_is_on_its_own_after_one_lease(what: str) -> None:
    place = Place()
    async with replicas(3, place) as (first, second, idle):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        setattr(place, what, True)
        await asyncio.sleep(LEASE + 2)
        snapshot = idle.state.snapshot()
        assert not snapshot.connected
        assert snapshot.replicas == 0
        assert snapshot.failed > 2
        World.down = False
        assert await idle.call()
        assert first.is_open

        setattr(place, what, False)
        await asyncio.sleep(3)
        assert idle.state.snapshot().replicas == 2
        assert not idle.is_open


async def test_one_that_is_cut_off_keeps_no_word_of_others_and_is_heard_no_more() -> None:
    place = Place()
    async with replicas(3, place) as (first, second, third):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        place.cut_off = {"replica 0"}
        await asyncio.sleep(LEASE + 2)
        assert third.state.snapshot().replicas == 1
        World.down = False
        assert await third.call()


async def test_no_one_who_comes_back_is_run_over() -> None:
    place = Place()
    async with replicas(5, place):
        place.refuses = True
        await asyncio.sleep(10)
        before = place.exchanges
        await asyncio.sleep(10)
        assert 5 * 10 <= place.exchanges - before <= 5 * 13


async def test_it_is_told_when_others_are_heard_and_when_not() -> None:
    place, told = Place(), list[Event]()
    end = subscribe(told.append)
    async with SharedState(PlaceLink(place), name="shop"):
        await asyncio.sleep(1)
        place.hangs = True
        await asyncio.sleep(5)
        place.hangs = False
        await asyncio.sleep(2)
    end()
    assert [(event.kind, event.pipeline) for event in told] == [
        (kind, "shop") for kind in ("shared", "unshared", "shared")
    ]


async def test_what_is_on_the_way_ends_with_it_and_nothing_is_left_at_the_place() -> None:
    place, link = Place(), PlaceLink(Place())
    state = SharedState(PlaceLink(place))
    async with replicas(2, place) as (first, second):
        idle = World(PlaceLink(place))
        await idle.state.start()
        World.down = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(4 * ROUND)
        assert idle.is_open
        await idle.state.aclose()
        await idle.state.aclose()
        World.down = False
        assert await idle.call()
        assert len(place.reports) == 2
    assert place.reports == {}
    await state.aclose()  # one that never began
    assert not link.closed


async def test_it_begins_once_and_can_begin_again() -> None:
    place = Place()
    state = SharedState(PlaceLink(place))
    await state.start()
    first = state.replica
    with pytest.raises(RuntimeError, match="begun"):
        await state.start()
    await state.aclose()
    await state.start()
    assert state.replica != first
    await state.aclose()


async def test_closing_waits_for_a_place_that_hangs_no_longer_than_its_timeout() -> None:
    place = Place()
    state = SharedState(PlaceLink(place), timeout=0.5)
    await state.start()
    await asyncio.sleep(1)
    place.hangs = True
    began = asyncio.get_running_loop().time()
    await state.aclose()
    assert asyncio.get_running_loop().time() - began <= 0.5


class Deaf(PlaceLink):
    """Takes a cancellation for an error of its own."""

    async def exchange(self, replica: str, report: bytes) -> Mapping[str, bytes]:
        try:
            return await super().exchange(replica, report)
        except asyncio.CancelledError:
            raise ConnectionError from None


async def test_it_ends_also_where_the_link_swallows_the_cancellation() -> None:
    place = Place()
    place.hangs = True
    state = SharedState(Deaf(place))
    await state.start()
    await asyncio.sleep(0.1)
    place.hangs = False
    async with asyncio.timeout(1):
        await state.aclose()


async def test_its_numbers_are_collected_while_it_runs() -> None:
    def numbers() -> dict[tuple[str, ...], object]:
        return {
            (metric.name, *labels): value
            for metric in registry.metrics()
            if metric.name.startswith("shared_")
            for labels, value in metric.samples.items()
        }

    place = Place()
    async with replicas(3, place) as (first, second, idle):
        World.down = True
        await first.calls(5)
        await second.calls(5)
        await asyncio.sleep(KNOWN)
        now = numbers()
        assert now["shared_connected", "shared"] == 3  # of three in one process, added up
        assert now["shared_replicas", "shared"] == 6
        assert now["shared_openings_total", "search"] == 1
        assert now["shared_exchanges_total", "shared", "failed"] == 0
        assert idle.is_open
    assert numbers() == {}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"interval": 0}, "interval=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"lease": 0.7}, "lease=0.7"),
        ({"minimum": 0}, "minimum=0"),
        ({"share": 1}, "share=1"),
        ({"kinds": ["bulkhead"]}, "kinds="),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SharedState: {named}"):
        SharedState(PlaceLink(Place()), **options)
