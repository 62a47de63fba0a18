"""The adaptive limit on one loop: places, the line, who goes first, cancellation, and its numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Criticality,
    DeadlineExceeded,
    LimitReached,
    Pipeline,
    TimedOut,
    Timeout,
    timeout,
)
from mcp_server_langgraph.resilience.testing import advance, settle
from tests.unit.resilience.adaptive_helpers import Fixed, Work, numbers


async def refused(task: asyncio.Task[str]) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        await task
    return caught.value


async def abandoned(seconds: float, call: Coroutine[Any, Any, str]) -> asyncio.Task[str]:
    """A task that inherited a deadline, whose parent no longer waits."""
    try:
        async with timeout(seconds):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(60)
    except TimedOut:
        return task
    raise AssertionError


async def test_calls_beyond_the_limit_wait_in_the_order_they_came() -> None:
    policy = AdaptiveLimit(Fixed(2))
    work = Work(policy)
    tasks = await work.begin("a", "b", "c", "d")
    assert (work.inside, numbers(policy).queued) == (["a", "b"], 2)
    await work.end("a")
    assert work.inside == ["b", "c"]
    await work.end("b", "c", "d")
    assert await asyncio.gather(*tasks) == ["a", "b", "c", "d"]
    assert (numbers(policy).active, numbers(policy).rejected) == (0, {})
    waits = policy.counts.waits.value()
    assert (sum(waits.counts), waits.sum) == (2, 0)


async def test_who_has_waited_for_an_interval_in_vain_is_refused() -> None:
    policy = AdaptiveLimit(Fixed(1))
    work = Work(policy)
    await work.begin("a")
    (late,) = await work.begin("b")
    await advance(0.0999)
    assert not late.done()
    await advance(0.0002)
    assert str(await refused(late)) == "adaptive_limit of 'svc' is reached"
    assert numbers(policy).rejected == {("queue_time", "CRITICAL"): 1}
    await work.end("a")
    assert numbers(policy).active == 0


async def test_in_a_line_that_stands_one_waits_a_target_only_and_the_newest_goes_first() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=10)
    work = Work(policy)
    working, first = await work.begin("working", "first")
    await advance(0.06)
    (early,) = await work.begin("early")
    await advance(0.041)  # the line has stood for more than 0.1 s
    await refused(first)
    older, newer = await work.begin("older", "newer")
    await work.end("working")
    assert work.inside == ["newer"]
    await advance(0.0051)
    await refused(older)
    assert not early.done()  # came when it did not stand yet
    await work.end("newer", "early")
    assert await asyncio.gather(working, early, newer) == ["working", "early", "newer"]


async def test_nothing_optional_begins_while_the_limit_is_reached() -> None:
    work = Work(AdaptiveLimit(Fixed(2)))
    (saturated,) = work.pipeline.site.saturation
    await work.begin("a")
    assert not saturated()
    await work.begin("b")
    assert saturated()
    await work.end("a", "b")
    assert not saturated()


async def test_a_full_line_refuses_at_once() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=1)
    work = Work(policy)
    await work.begin("a", "b")
    (third,) = await work.begin("c")
    await refused(third)
    assert numbers(policy).rejected == {("queue_full", "CRITICAL"): 1}
    await work.end("a", "b")


async def test_a_line_is_as_long_as_the_limit_where_nothing_else_is_said() -> None:
    policy = AdaptiveLimit(Fixed(3))
    work = Work(policy)
    tasks = await work.begin(*"abcdefg")
    assert [task.done() for task in tasks] == [False] * 6 + [True]
    await refused(tasks[-1])
    await work.end(*"abcdef")


async def test_in_a_full_line_who_matters_more_takes_the_place_of_who_matters_least() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=2)
    work = Work(policy)
    await work.begin("a")
    await work.begin("b")
    (sheddable,) = await work.begin("c", level=Criticality.SHEDDABLE)
    (vital,) = await work.begin("d", level=Criticality.CRITICAL_PLUS)
    await refused(sheddable)
    assert numbers(policy).rejected == {("displaced", "SHEDDABLE"): 1}
    (other,) = await work.begin("e", level=Criticality.SHEDDABLE_PLUS)
    await refused(other)
    await work.end("a")
    assert work.inside == ["d"]
    await work.end("d", "b")
    assert await vital == "d"


async def test_a_guaranteed_share_is_served_first_while_calls_wait_and_only_then() -> None:
    policy = AdaptiveLimit(Fixed(4), max_queue=10, partitions={Criticality.SHEDDABLE: 0.25})
    work = Work(policy)
    await work.begin("1", "2", "3", "4")
    await work.begin("s1", "s2", level=Criticality.SHEDDABLE)
    await work.begin("5", "6")
    await work.end("1")
    assert work.inside == ["2", "3", "4", "s1"]
    await work.end("2", "3")
    assert work.inside == ["4", "s1", "5", "6"]
    await work.end("s1", "4")
    assert work.inside == ["5", "6", "s2"]
    await work.begin("s3", level=Criticality.SHEDDABLE)  # nobody waits: a free place is anybody's
    assert work.inside == ["5", "6", "s2", "s3"]
    await work.end("5", "6", "s2", "s3")
    assert [len(share) for share in policy.limiter.shares.busy] == [0, 0, 0, 0]
    assert numbers(policy).active == 0


async def test_two_places_that_come_free_in_one_turn_do_not_both_go_to_one_share() -> None:
    policy = AdaptiveLimit(Fixed(4), max_queue=10, partitions={Criticality.SHEDDABLE: 0.25})
    work = Work(policy)
    await work.begin("1", "2", "3", "4")
    await work.begin("s1", "s2", level=Criticality.SHEDDABLE)
    await work.begin("5")
    work.gates["1"].set_result(None)
    work.gates["2"].set_result(None)
    await settle()
    assert work.inside == ["3", "4", "s1", "5"]
    await work.end("3", "4", "s1", "5", "s2")


@pytest.mark.parametrize("partitions", [None, {Criticality.CRITICAL: 0.5}])
async def test_who_is_cancelled_in_the_line_leaves_it(partitions: dict[Criticality, float] | None) -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=5, partitions=partitions)
    work = Work(policy)
    await work.begin("a")
    (waiting,) = await work.begin("b")
    waiting.cancel()
    await settle()
    assert (waiting.cancelled(), numbers(policy).queued, numbers(policy).active) == (True, 0, 1)
    await work.end("a")
    assert (numbers(policy).active, policy.limiter.places.free) == (0, policy.limiter.places.free)
    assert [len(share) for share in policy.limiter.shares.busy] == [0, 0, 0, 0]


@pytest.mark.parametrize("partitions", [None, {Criticality.CRITICAL: 0.5}])
async def test_who_is_cancelled_just_when_a_place_came_gives_it_back(
    partitions: dict[Criticality, float] | None,
) -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=5, partitions=partitions)
    work = Work(policy)
    await work.begin("a")
    second, third = await work.begin("b", "c")
    work.gates["a"].set_result(None)
    while numbers(policy).queued == 2:
        await asyncio.sleep(0)
    second.cancel()
    await settle()
    assert (second.cancelled(), work.inside) == (True, ["c"])
    await work.end("c")
    assert await third == "c"
    assert numbers(policy).active == 0
    assert [len(share) for share in policy.limiter.shares.busy] == [0, 0, 0, 0]


async def test_who_is_cancelled_just_when_displaced_leaves_no_trace() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=1)
    work = Work(policy)
    await work.begin("a")
    (sheddable,) = await work.begin("b", level=Criticality.SHEDDABLE)
    work.gates["c"] = asyncio.get_running_loop().create_future()
    entry = next(iter(policy.limiter.line.lanes[0]))
    vital = asyncio.ensure_future(work.pipeline.call(work.last, "c"))
    while entry.why is None:
        await asyncio.sleep(0)
    sheddable.cancel()
    await settle()
    assert (sheddable.cancelled(), numbers(policy).active, numbers(policy).queued) == (True, 1, 1)
    await work.end("a", "c")
    assert await vital == "c"
    assert numbers(policy).active == 0


async def test_a_wait_ends_with_the_callers_deadline() -> None:
    policy = AdaptiveLimit(Fixed(1))
    work = Work(policy)
    await work.begin("a")
    waiting = await abandoned(0.05, work.pipeline.call(work.last, "b"))
    with pytest.raises(DeadlineExceeded):
        await waiting
    assert asyncio.get_running_loop().time() == pytest.approx(0.05)
    assert numbers(policy).rejected == {("deadline", "CRITICAL"): 1}
    await work.end("a")


async def test_who_comes_after_its_deadline_does_not_join_the_line() -> None:
    policy = AdaptiveLimit(Fixed(1))
    work = Work(policy)
    await work.begin("a")

    async def late() -> str:
        await asyncio.sleep(0.06)
        return await work.pipeline.call(work.last, "b")

    task = await abandoned(0.05, late())
    with pytest.raises(LimitReached):  # the scope is closed: the deadline no longer binds
        await task
    async with timeout(0.05):
        asyncio.get_running_loop()._set_clock(1.0)  # type: ignore[attr-defined]  # something blocks the loop
        with pytest.raises(DeadlineExceeded):
            await work.pipeline.call(work.last, "b")
    await work.end("a")
    assert numbers(policy).rejected == {("queue_time", "CRITICAL"): 1, ("deadline", "CRITICAL"): 1}


async def test_the_time_limit_of_the_pipeline_cuts_the_wait() -> None:
    policy = AdaptiveLimit(Fixed(1), queue_interval=5)
    work = Work(policy)
    await work.begin("a")
    with pytest.raises(TimedOut):
        await Pipeline("svc", Timeout(1), policy).call(work.last, "a")
    assert numbers(policy).queued == 0
    await work.end("a")


async def test_a_waiter_whose_time_passed_while_the_loop_was_busy_is_passed_over() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=5)
    work = Work(policy)
    await work.begin("a")
    late, next_one = await work.begin("b", "c")
    next(iter(policy.limiter.line.lanes[Criticality.CRITICAL])).end = 0.0
    await work.end("a")
    assert work.inside == ["c"]
    await refused(late)
    await work.end("c")
    assert await next_one == "c"
