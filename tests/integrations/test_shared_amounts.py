"""Cooldowns, quotas, rate limits and retry budgets that replicas share; and reports that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
from collections.abc import AsyncIterator, Callable, Collection

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Cooldown,
    Event,
    Hedge,
    Pipeline,
    Policy,
    Quota,
    RateLimit,
    RateLimited,
    Retry,
    subscribe,
)
from mcp_server_langgraph.resilience.budget import Budget
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.breaker_calls import call
from tests.support.shared_replicas import Place, PlaceLink

STARTED = 1.0
KNOWN = 0.75
WORD = {
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-requests": "50",
    "x-ratelimit-reset-requests": "30s",
}
ALL = ("budget", "circuit_breaker", "cooldown", "quota", "rate_limit")


@contextlib.asynccontextmanager
async def sharing(
    *policies: Policy, place: Place | None = None, kinds: Collection[str] = ALL
) -> AsyncIterator[list[SharedState]]:
    """Each policy in a process of its own."""
    place = place or Place()
    async with contextlib.AsyncExitStack() as stack:
        states = [
            await stack.enter_async_context(
                SharedState(
                    PlaceLink(place, str(index)),
                    policies=[policy],
                    kinds=kinds,
                    chance=random.Random(index).random,
                )
            )
            for index, policy in enumerate(policies)
        ]
        await asyncio.sleep(STARTED)
        yield states


def named(make: Callable[[], Policy], number: int) -> list[Policy]:
    """So many with one name."""
    policies = [make() for _ in range(number)]
    for policy in policies:
        Pipeline("model", policy)
    return policies


async def test_a_cooldown_that_one_was_told_keeps_all_away_and_ends_for_all() -> None:
    first, second, third = (Cooldown(name="model", jitter=0) for _ in range(3))
    async with sharing(first, second, third):
        first.start(10)
        await asyncio.sleep(KNOWN)
        assert all(9 < each.snapshot().left < 10 for each in (second, third))
        # If those who heard of it told it on, each round trip would make it longer.
        await asyncio.sleep(9.5)
        assert {each.snapshot().state for each in (first, second, third)} == {"idle"}
        assert {each.snapshot().started for each in (first, second, third)} == {1}


async def test_a_cooldown_is_only_ever_extended_by_what_others_say() -> None:
    first, second = (Cooldown(name="model", jitter=0) for _ in range(2))
    async with sharing(first, second):
        second.start(60)
        first.start(5)
        await asyncio.sleep(KNOWN)
        assert second.snapshot().left > 59
        assert first.snapshot().left > 59


async def test_what_is_told_again_a_little_later_extends_nothing() -> None:
    first, second = (Cooldown(name="model", jitter=0) for _ in range(2))
    place = Place()
    slow = [PlaceLink(place, name, delay=0.3) for name in ("first", "second")]
    async with (
        SharedState(slow[0], policies=[first]),
        SharedState(slow[1], policies=[second]),
    ):
        await asyncio.sleep(3)
        first.start(30)
        await asyncio.sleep(2)
        until = second.machine.until
        await asyncio.sleep(10)
        assert second.machine.until == until


async def test_a_second_cooldown_is_heard_as_well_as_the_first() -> None:
    first, second = (Cooldown(name="model", jitter=0) for _ in range(2))
    async with sharing(first, second):
        for _ in range(2):
            first.start(5)
            await asyncio.sleep(KNOWN)
            assert second.snapshot().left > 4
            await asyncio.sleep(6)


async def test_other_names_are_other_cooldowns() -> None:
    first, second = Cooldown(name="model"), Cooldown(name="search")
    async with sharing(first, second):
        first.start(10)
        await asyncio.sleep(KNOWN)
        assert second.snapshot().left == 0


async def test_what_one_took_of_a_quota_is_missing_for_all() -> None:
    first, second = (Quota(name="model", gradual=False) for _ in range(2))
    first.observe(WORD)
    second.observe(WORD)
    async with sharing(first, second):
        for _ in range(20):
            first.reserve().keep()
        second.reserve().keep()
        await asyncio.sleep(KNOWN)
        assert (first.snapshot().left, second.snapshot().left) == ({"requests": 29}, {"requests": 29})


async def test_what_was_taken_while_nobody_was_heard_is_left_out() -> None:
    first, second = (Quota(name="model", gradual=False) for _ in range(2))
    first.observe({**WORD, "x-ratelimit-reset-requests": "5m"})
    second.observe({**WORD, "x-ratelimit-reset-requests": "5m"})
    place = Place()
    async with sharing(first, second, place=place):
        place.cut_off = {"1"}
        await asyncio.sleep(1)
        for _ in range(20):
            first.reserve().keep()
        await asyncio.sleep(5)
        place.cut_off = set()
        await asyncio.sleep(3)
        assert second.snapshot().left == {"requests": 50}
        first.reserve().keep()
        await asyncio.sleep(KNOWN)
        assert second.snapshot().left == {"requests": 49}


async def test_who_has_no_word_of_the_provider_takes_over_what_the_others_know() -> None:
    first, second = (Quota(name="model") for _ in range(2))
    first.observe(WORD)
    async with sharing(first, second):
        await asyncio.sleep(KNOWN)
        assert second.snapshot().left["requests"] == pytest.approx(first.snapshot().left["requests"], abs=2)
        assert second.snapshot().limits == {"requests": 100}


async def test_a_limit_that_was_given_to_all_is_that_of_all_together() -> None:
    first, second = (Quota(name="model", limits={"requests": 100}) for _ in range(2))
    async with sharing(first, second):
        for _ in range(60):
            first.reserve().keep()
        for _ in range(30):
            second.reserve().cancel()
        second.reserve().keep()
        await asyncio.sleep(KNOWN)
        assert first.snapshot().left == second.snapshot().left == {"requests": 39}
        await asyncio.sleep(60)
        assert first.snapshot().left == second.snapshot().left == {"requests": 100}


async def test_a_hold_of_a_quota_holds_for_all() -> None:
    first, second = (Quota(name="model") for _ in range(2))
    async with sharing(first, second):
        loop = asyncio.get_running_loop()
        first.machine.hold(10, loop.time())
        await asyncio.sleep(KNOWN)
        assert 8 < second.refuses_for(loop.time()) < 10
        await asyncio.sleep(10)
        assert second.refuses_for(loop.time()) == first.refuses_for(loop.time()) == 0


async def test_processes_together_stay_near_one_rate_limit() -> None:
    limits = [RateLimit(20, per=1, burst=5, name="model") for _ in range(4)]
    async with sharing(*limits):
        loop, taken = asyncio.get_running_loop(), 0
        end = loop.time() + 20
        while loop.time() < end:
            for limit in limits:
                with contextlib.suppress(RateLimited):
                    limit.reserve().keep()
                    taken += 1
            await asyncio.sleep(0.05)
        # 20 s at 20 a second, the four bursts at the start, and what is not known for a fourth of a second.
        assert 20 * 20 * 0.75 <= taken <= 20 * 20 * 1.25


async def test_permits_taken_while_nobody_was_heard_are_left_out() -> None:
    limits = [RateLimit(1, per=1000, burst=100, name="model") for _ in range(2)]
    place = Place()
    async with sharing(*limits, place=place):
        place.cut_off = {"1"}
        await asyncio.sleep(1)
        limits[0].reserve(40).keep()
        await asyncio.sleep(5)
        place.cut_off = set()
        await asyncio.sleep(3)
        assert limits[1].snapshot().left > 99
        limits[0].reserve(5).keep()
        await asyncio.sleep(KNOWN)
        assert 94 < limits[1].snapshot().left < 96


async def test_a_rate_limit_is_shared_only_where_asked_for() -> None:
    limits = [RateLimit(1, per=100, burst=10, name="model") for _ in range(2)]
    place = Place()
    async with sharing(*limits, place=place, kinds=("quota",)):
        limits[0].reserve(10).keep()
        await asyncio.sleep(KNOWN)
        limits[1].reserve(10).keep()
        assert not any(b"rate_limit" in report for report in place.reports.values())


async def test_one_with_few_calls_may_retry_on_the_traffic_of_all() -> None:
    busy, quiet = (Retry(budget=Budget(0.2, per_second=0)) for _ in range(2))
    pipelines = [Pipeline("search", policy) for policy in (busy, quiet)]
    async with sharing(busy, quiet):
        for _ in range(100):
            await call(pipelines[0])
        await asyncio.sleep(KNOWN)
        await call(pipelines[1], ConnectionError())
        assert quiet.budget.spent == 2
        await asyncio.sleep(KNOWN)
        assert busy.budget.snapshot().balance == 18  # below a fifth of the 101, less those two


async def test_the_floor_is_divided_and_stays_so_while_nobody_is_heard() -> None:
    place = Place()
    policies = [Retry(budget=Budget(0.2, per_second=1.0, name="search")) for _ in range(5)]
    async with sharing(*policies, place=place):
        loop = asyncio.get_running_loop()
        place.refuses = True
        await asyncio.sleep(30)
        budget = policies[0].budget
        while budget.spend(loop.time()):
            pass
        await asyncio.sleep(4.9)
        assert not budget.spend(loop.time())
        await asyncio.sleep(0.2)
        assert budget.spend(loop.time())
    await asyncio.sleep(10.5)  # the window of what was spent
    assert [budget.spend(asyncio.get_running_loop().time()) for _ in range(4)] == [True] * 3 + [False]


async def test_who_left_no_longer_has_a_part_of_the_floor() -> None:
    first, second = (Retry(budget=Budget(0.2, per_second=1.0, name="search")) for _ in range(2))
    place = Place()
    async with sharing(first, place=place):
        async with sharing(second, place=place):
            await asyncio.sleep(KNOWN)
            assert first.budget._allowance.sharers == 2
        await asyncio.sleep(5)
        assert first.budget._allowance.sharers == 1


async def test_all_that_is_in_a_pipeline_is_shared_and_no_longer_than_it_is() -> None:
    place = Place()
    shared = Budget(name="both")
    pipeline: Pipeline | None = Pipeline(
        "search", Bulkhead(5), Retry(budget=shared), Hedge(delay=1, budget=shared), Quota(), Cooldown()
    )
    async with SharedState(PlaceLink(place), kinds=ALL):
        await asyncio.sleep(1.5)
        assert told(place) == {"retry_budget:both", "quota:search"}
        del pipeline
        gc.collect()
        await asyncio.sleep(1.5)
        assert told(place) == set()


def told(place: Place) -> set[str]:
    """What the only report speaks of."""
    [report] = place.reports.values()
    return set(json.loads(report.partition(b" ")[2]))


async def test_a_name_that_is_too_long_is_told_once_and_not_shared() -> None:
    place, events = Place(), list[Event]()
    end = subscribe(events.append)
    async with sharing(Quota(name="x" * 300), place=place):
        await asyncio.sleep(3)
        assert told(place) == set()
    end()
    assert [event.details["problem"] for event in events if event.kind == "warning"] == [
        "not shared: its name is too long"
    ]


BAD = [
    b"",
    b"7",
    b"seven {}",
    b"\xff\xfe",
    b"%d [1, 2]",
    b'%d {"cooldown:model": 5}',
    b'%d {"cooldown:model": [1, NaN]}',
    b'%d {"cooldown:model": [1, -5]}',
    b'%d {"cooldown:model": [1, 1e400]}',
    b'%d {"cooldown:model": [true, "60"]}',
    b'%d {"cooldown:model": [1' + b"0" * 400 + b", 60]}",
    b"%d " + b"[" * 100_000,
    b'%d {"' + b"x" * 300 + b'": [1]}',
    b'%d {"cooldown:model": [' + b"1," * 40 + b"1]}",
    b'%d {"x": [1], "y": "' + b"y" * (1 << 20) + b'"}',
]
UNFIT = [
    b'%d {"cooldown:model": [1, 60, 60]}',
    b'%d {"cooldown:model": []}',
    b'%d {"cooldown:": [1, 60], "nothing": [1], "": [2]}',
    b'%d {"circuit_breaker:model": [1]}',
]


@pytest.mark.parametrize("report", [*BAD, *UNFIT], ids=lambda report: repr(report[:40]))
async def test_a_report_that_cannot_be_read_harms_nobody_and_is_told_once(report: bytes) -> None:
    place, events = Place(), list[Event]()
    first, second = (Cooldown(name="model") for _ in range(2))
    async with sharing(first, second, place=place) as states:
        end = subscribe(events.append)
        for number in range(1, 8):
            place.reports["stranger"] = report.replace(b"%d", str(number).encode())
            await asyncio.sleep(0.5)
        assert first.snapshot().left == 0
        warned = [event.details for event in events if event.kind == "warning"]
        assert [details["replica"] for details in warned] == ["stranger"] * len(states) * (report in BAD)
        assert (states[0].snapshot().bad_reports > 0) == (report in BAD)
        first.start(10)
        await asyncio.sleep(KNOWN)
        assert second.snapshot().left > 9
        end()


async def test_what_a_stranger_left_is_taken_away_some_day() -> None:
    place = Place()
    async with sharing(Cooldown(name="model"), place=place):
        place.reports["dead"] = b"5 {}"
        place.reports["garbage"] = b"\x00"
        await asyncio.sleep(59)
        assert len(place.reports) == 3
        await asyncio.sleep(3)
        assert len(place.reports) == 1


async def test_no_report_is_as_long_as_a_number_that_was_never_meant() -> None:
    cooldown = Cooldown(name="model", jitter=0)
    place = Place()
    async with sharing(cooldown, place=place):
        for number in (1, 2, 3):
            place.reports["stranger"] = b'%d {"cooldown:model": [1, 1e9]}' % number
            await asyncio.sleep(0.5)
        assert 3590 < cooldown.snapshot().left <= 3600
