"""What hedges are kept within: the observed delay, the budget, the deadline, saturation, and whether they win."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Budget,
    Bulkhead,
    CircuitBreaker,
    Event,
    Hedge,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    registry,
)
from tests.support.attempts import Attempt, Attempts, hedge
from tests.support.clock import now


async def several(pipeline: Pipeline, count: int, *script: Attempt) -> list[int]:
    return [await pipeline.call(Attempts(*script)) for _ in range(count)]


async def test_the_delay_is_the_quantile_of_recent_latencies_once_enough_are_known() -> None:
    policy = Hedge(quantile=0.9, min_samples=10, budget=Budget.unlimited())
    pipeline = Pipeline("svc", policy)
    for tenth in range(1, 11):
        assert policy.snapshot().delay is None
        await pipeline.call(Attempts(Attempt(tenth / 10)))
    assert policy.snapshot().delay == pytest.approx(0.9, rel=0.04)
    began = now()
    assert await pipeline.call(Attempts(Attempt(60), Attempt(0.1))) == 1
    assert now() - began == pytest.approx(1.0, rel=0.04)


async def test_calls_that_all_take_the_same_time_are_not_hedged() -> None:
    policy = Hedge(budget=Budget.unlimited())
    await several(Pipeline("svc", policy), 100, Attempt(0.01))
    assert policy.snapshot().started == 0
    assert 0.01 <= (policy.snapshot().delay or 0) < 0.0105


async def test_the_delay_is_never_below_a_millisecond() -> None:
    policy = Hedge(budget=Budget.unlimited())
    await several(Pipeline("svc", policy), 30, Attempt(0.00001))
    assert policy.snapshot().delay == 0.001


async def test_errors_tell_nothing_about_the_usual_latency() -> None:
    policy = Hedge(budget=Budget.unlimited())
    for _ in range(50):
        with pytest.raises(ValueError):  # noqa: PT011
            await Pipeline("svc", policy).call(Attempts(Attempt(1, ValueError())))
    assert policy.snapshot().samples == 0


async def test_a_primary_that_lost_counts_with_the_time_that_it_had_run() -> None:
    policy = Hedge(quantile=0.99, min_samples=1, budget=Budget.unlimited())
    pipeline = Pipeline("svc", policy)
    await pipeline.call(Attempts(Attempt(1)))
    assert await pipeline.call(Attempts(Attempt(60), Attempt(0.5))) == 1
    assert policy.snapshot().samples == 2
    assert policy.snapshot().delay == pytest.approx(1.56, rel=0.05)


async def test_what_is_long_past_is_not_recent() -> None:
    policy = Hedge(budget=Budget.unlimited())
    pipeline = Pipeline("svc", policy)
    await several(pipeline, 30, Attempt(0.01))
    await asyncio.sleep(120)
    assert await pipeline.call(Attempts(Attempt(5))) == 0
    assert (policy.snapshot().delay, policy.snapshot().started) == (None, 0)


async def test_without_a_budget_hedges_stay_below_a_twentieth_of_the_calls() -> None:
    policy = Hedge(0.005)
    pipeline = Pipeline("svc", policy)
    calls = []
    for _ in range(2000):
        calls.append(asyncio.ensure_future(pipeline.call(Attempts(Attempt(0.1), Attempt(0.01)))))
        await asyncio.sleep(0.01)
    await asyncio.gather(*calls)
    snapshot = policy.snapshot()
    assert 80 <= snapshot.started <= 100
    assert snapshot.started + snapshot.suppressed["budget"] == 2000


async def test_one_budget_serves_retries_and_hedges_and_counts_each_call_once() -> None:
    budget = Budget(0.5, per_second=0.0)
    pipeline = Pipeline("svc", Retry(2, multiplier=0.0, budget=budget), Hedge(0.5, budget=budget))
    await several(pipeline, 10, Attempt(0.1))
    refused: list[str] = []
    for _ in range(5):
        try:
            await pipeline.call(Attempts(Attempt(0.1, ConnectionError())))
        except ConnectionError as exc:
            refused.append(str(exc))
    assert budget.snapshot().spent == 7  # less than half of the 15 calls
    assert len(refused) == 5


@pytest.mark.parametrize("kind", ["bulkhead", "adaptive limit"])
async def test_none_begins_while_a_limiter_of_the_pipeline_is_full(kind: str) -> None:
    limiter = Bulkhead(2) if kind == "bulkhead" else AdaptiveLimit(initial=2, max_limit=2)
    policy = hedge()
    pipeline = Pipeline("svc", limiter, policy)
    calls = [asyncio.ensure_future(pipeline.call(Attempts(Attempt(3), Attempt(0.5)))) for _ in range(2)]
    await asyncio.sleep(0.5)
    assert policy.snapshot().off == "saturated"
    assert await asyncio.gather(*calls) == [0, 0]
    assert policy.snapshot().suppressed["saturated"] == 2
    assert policy.snapshot().off is None
    assert await pipeline.call(Attempts(Attempt(3), Attempt(0.5))) == 1


async def test_none_begins_while_the_user_says_that_it_is_enough() -> None:
    policy = hedge(saturated=lambda: now() < 10)
    pipeline = Pipeline("svc", policy)
    assert await pipeline.call(Attempts(Attempt(9), Attempt(0.5))) == 0
    assert await pipeline.call(Attempts(Attempt(9), Attempt(0.5))) == 1


async def test_none_begins_that_would_probably_not_end_before_the_deadline() -> None:
    policy = hedge()
    await several(Pipeline("other", policy), 3, Attempt(0.9))
    for total, started in ((1.8, 0), (2.0, 1)):
        with pytest.raises(TimedOut):
            await Pipeline("svc", Timeout(total), policy).call(Attempts(Attempt(60)))
        assert policy.snapshot().started == started
    assert policy.snapshot().suppressed["deadline"] == 1


async def test_a_deadline_cuts_primary_and_hedge_and_both_count_against_the_dependency() -> None:
    breaker = CircuitBreaker(fail_max=10)
    service = Attempts(Attempt(60))
    with pytest.raises(TimedOut):
        await Pipeline("svc", Timeout(2), hedge(), breaker).call(service)
    assert now() == 2
    assert service.ended == {0: "cancelled", 1: "cancelled"}
    assert sum(breaker.snapshot().failures.values()) == 2


async def test_hedges_that_do_not_win_are_switched_off_for_a_while(events: list[Event]) -> None:
    policy = hedge()
    pipeline = Pipeline("svc", policy)
    await several(pipeline, 20, Attempt(1.25), Attempt(60))
    assert policy.snapshot().off == "not_winning"
    assert await pipeline.call(Attempts(Attempt(5), Attempt(0.5))) == 0
    await asyncio.sleep(30)
    assert policy.snapshot().off is None
    assert await pipeline.call(Attempts(Attempt(5), Attempt(0.5))) == 1
    switched = [event for event in events if event.kind != "hedge"]
    assert [(event.kind, event.pipeline, event.details) for event in switched] == [
        ("hedge_off", "svc", {"reason": "not_winning", "seconds": 30.0}),
        ("hedge_on", "svc", {}),
    ]
    assert policy.snapshot().suppressed["not_winning"] == 1


async def test_a_hedge_that_an_open_breaker_refuses_says_nothing_about_hedging() -> None:
    policy, breaker = hedge(), CircuitBreaker(fail_max=1, timeout=3600)
    pipeline = Pipeline("svc", policy, breaker)
    for _ in range(25):
        breaker.reset()
        call = asyncio.ensure_future(pipeline.call(Attempts(Attempt(2))))
        await asyncio.sleep(0.5)
        breaker.force_open()
        await call
    assert policy.snapshot().started == 25
    assert policy.snapshot().off is None


async def test_a_call_that_is_cancelled_says_nothing_about_hedging() -> None:
    policy = hedge()
    for _ in range(25):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await Pipeline("svc", policy).call(Attempts(Attempt(60)))
    assert policy.snapshot().started == 25
    assert policy.snapshot().off is None
    assert policy.snapshot().wasted_seconds == 25


async def test_what_happened_is_told_and_counted(events: list[Event]) -> None:
    policy = hedge(max_hedges=2)
    pipeline = Pipeline("svc", policy)
    assert await pipeline.call(Attempts(Attempt(60), Attempt(0.5, ConnectionError()), Attempt(0.5))) == 2
    assert [event.details for event in events] == [
        {"number": 1, "why": "slow"},
        {"number": 2, "why": "failed"},
    ]
    numbers = {
        metric.name: metric.samples for metric in registry.metrics() if metric.name.startswith("hedge_")
    }
    assert numbers == {
        "hedge_started_total": {("svc",): 2},
        "hedge_won_total": {("svc",): 1},
        "hedge_wasted_seconds_total": {("svc",): 2.5},
        "hedge_suppressed_total": {
            ("svc", reason): 0 for reason in ("budget", "deadline", "not_winning", "saturated")
        },
        "hedge_delay_seconds": {("svc",): 1.0},
    }
