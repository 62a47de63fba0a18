"""What policies do with what others who share them found: never a call's doing, and never the last word."""

from __future__ import annotations

import asyncio
import math

import pytest

from mcp_server_langgraph.resilience import (
    Budget,
    CircuitBreaker,
    CircuitOpen,
    Cooldown,
    CoolingDown,
    Event,
    Pipeline,
    Quota,
    QuotaUsed,
    RateLimit,
    RateLimited,
    subscribe,
)
from mcp_server_langgraph.resilience._machines.quota import Amounts
from mcp_server_langgraph.resilience._machines.quota_headers import Reading
from tests.support.breaker_calls import call

HEADERS = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "50"}


async def test_a_closed_breaker_opens_on_the_word_of_others_and_probes_for_itself() -> None:
    breaker = CircuitBreaker("search", timeout=60)
    pipeline = Pipeline("search", breaker)
    events: list[Event] = []
    end = subscribe(events.append)
    assert breaker.learn_open(10)
    end()
    assert [(event.kind, event.details["because"]) for event in events] == [("state_change", "quorum")]
    refused = await call(pipeline)
    assert isinstance(refused, CircuitOpen)
    assert refused.retry_after == 10
    await asyncio.sleep(10)
    assert await call(pipeline) is None
    assert breaker.state == "closed"


async def test_a_failed_probe_makes_it_a_finding_of_its_own() -> None:
    breaker = CircuitBreaker("search", timeout=60)
    pipeline = Pipeline("search", breaker)
    breaker.learn_open(10)
    await asyncio.sleep(10)
    await call(pipeline, ConnectionError())
    assert breaker.snapshot().because == "probe_failed"
    assert not breaker.learn_open(0)
    assert breaker.state == "open"


async def test_its_end_follows_what_the_others_say() -> None:
    breaker = CircuitBreaker("search")
    pipeline = Pipeline("search", breaker)
    breaker.learn_open(10)
    assert not breaker.learn_open(30)
    await asyncio.sleep(20)
    assert isinstance(await call(pipeline), CircuitOpen)
    breaker.learn_open(0)
    assert await call(pipeline) is None


async def test_an_opening_of_its_own_is_not_changed_by_others() -> None:
    breaker = CircuitBreaker("search", fail_max=1, timeout=60)
    await call(Pipeline("search", breaker), ConnectionError())
    before = breaker.snapshot()
    assert not breaker.learn_open(5)
    assert not breaker.learn_open(0)
    assert breaker.snapshot() == before


@pytest.mark.parametrize("mode", ["force_close", "force_open", "disable", "metrics_only"])
async def test_what_an_operator_chose_wins(mode: str) -> None:
    breaker = CircuitBreaker("search")
    getattr(breaker, mode)()
    before = breaker.snapshot()
    assert not breaker.learn_open(10)
    assert breaker.snapshot() == before


async def test_a_break_told_by_others_is_believed_as_far_as_a_retry_after() -> None:
    breaker = CircuitBreaker("search")
    breaker.learn_open(1e9)
    until = breaker.snapshot().open_until
    assert until is not None
    assert until - asyncio.get_running_loop().time() == 300


async def test_a_cooldown_is_extended_by_others_and_never_shortened() -> None:
    cooldown = Cooldown(jitter=0)
    pipeline = Pipeline("model", cooldown)
    assert cooldown.extend(10)
    assert not cooldown.extend(5)
    assert not cooldown.extend(0)
    assert isinstance(await call(pipeline), CoolingDown)
    assert cooldown.snapshot().started == 1
    await asyncio.sleep(10)
    assert await call(pipeline) is None


async def test_only_what_our_own_calls_were_told_is_our_own() -> None:
    cooldown = Cooldown()
    now = asyncio.get_running_loop().time()
    cooldown.extend(10)
    assert cooldown.machine.own_until == -math.inf
    cooldown.start(5)
    assert cooldown.machine.own_until == -math.inf
    cooldown.start(20)
    assert cooldown.machine.own_until == now + 20


async def test_permits_that_others_take_are_missing_here() -> None:
    limit = RateLimit(10, per=1, burst=10)
    limit.note_foreign(10)
    with pytest.raises(RateLimited):
        limit.reserve()
    limit.note_foreign(-1)
    limit.reserve().keep()
    assert limit.bucket.taken == 1


async def test_what_a_rate_limit_gave_is_counted_with_what_came_back() -> None:
    limit = RateLimit(10, per=1, burst=10)
    limit.reserve(4).settle(1)
    limit.reserve(2).settle(5)
    limit.reserve(3).cancel()
    limit.reserve(2).keep()
    assert limit.bucket.taken == 1 + 5 + 0 + 2


async def test_quota_that_others_take_is_missing_here() -> None:
    quota = Quota(gradual=False)
    quota.observe(HEADERS)
    quota.note_foreign(Amounts((50.0, 0.0, 0.0, 0.0)))
    with pytest.raises(QuotaUsed):
        quota.reserve()
    quota.note_foreign(Amounts((-2.0, 0.0, 0.0, 0.0)))
    quota.reserve().keep()
    quota.reserve().cancel()
    assert quota.machine.taken.each == (1.0, 0.0, 0.0, 0.0)


async def test_settled_tokens_are_counted_as_they_were_used() -> None:
    quota = Quota()
    quota.reserve(100).settle(130)
    assert quota.machine.taken.each == (1.0, 130.0, 130.0, 0.0)


async def test_the_word_of_others_is_for_who_has_none() -> None:
    quota = Quota()
    quota.observe(HEADERS)
    quota.believe({"requests": Reading(100, 1, 60), "tokens": Reading(1000, 7, 60)})
    assert quota.snapshot().left == {"requests": 50, "tokens": 7}


async def test_what_a_quota_knows_can_be_believed_by_another() -> None:
    for gradual in (True, False):
        quota, other = Quota(gradual=gradual), Quota(gradual=gradual)
        quota.observe({**HEADERS, "x-ratelimit-reset-requests": "25s"})
        await asyncio.sleep(5)
        now = asyncio.get_running_loop().time()
        other.believe(quota.machine.readings(now))
        assert other.snapshot() == quota.snapshot()
        assert quota.machine.readings(now)["requests"].reset == pytest.approx(20)


async def test_a_hold_told_by_others_is_no_hold_of_our_own() -> None:
    quota, now = Quota(), asyncio.get_running_loop().time()
    quota.machine.hold(10, now, told=True)
    assert (quota.machine.held_until, quota.machine.own_held_until) == (now + 10, -math.inf)
    quota.machine.hold(5, now)
    assert quota.machine.own_held_until == -math.inf
    quota.machine.hold(20, now)
    assert quota.machine.own_held_until == now + 20


async def test_a_budget_is_one_share_of_all_traffic() -> None:
    budget = Budget(0.2, per_second=0)
    now = asyncio.get_running_loop().time()
    assert not budget.spend(now)
    budget.note_foreign(100, 10)
    assert [budget.spend(now) for _ in range(10)] == [True] * 9 + [False]
    assert budget.tally() == (0, 9)


async def test_a_budgets_tally_loses_no_traffic() -> None:
    budget, calls = Budget(0.2, per_second=0), 0
    budget.watch(lambda: calls)
    calls = 40
    assert budget.tally() == (40, 0)
    calls = 50
    assert budget.tally() == (50, 0)
    assert budget.snapshot().balance == 9


async def test_what_was_due_before_the_floor_was_divided_stays() -> None:
    budget = Budget(0.0, per_second=1.0)
    for _ in range(3):
        budget.spend(asyncio.get_running_loop().time())
    await asyncio.sleep(1)
    budget.share_floor(100)
    assert budget.spend(asyncio.get_running_loop().time())
