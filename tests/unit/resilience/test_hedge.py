"""One call and its hedges: when they begin, who wins, and what becomes of the others."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    Kind,
    Pipeline,
    Retry,
    Timeout,
    current_hedge,
    with_hedge,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.attempts import Attempt, Attempts, hedge
from tests.support.clock import now


async def test_a_call_that_answers_in_time_is_not_hedged_and_makes_no_task() -> None:
    policy, service = hedge(), Attempts(Attempt(0.9))
    before = len(asyncio.all_tasks())
    call = asyncio.ensure_future(Pipeline("svc", policy).call(service))
    await asyncio.sleep(0.5)
    assert len(asyncio.all_tasks()) == before + 1
    assert await call == 0
    assert policy.snapshot().started == 0


async def test_a_late_call_is_hedged_and_the_first_answer_wins() -> None:
    policy, service = hedge(), Attempts(Attempt(60), Attempt(0.5))
    assert await Pipeline("svc", policy).call(service) == 1
    assert now() == 1.5
    assert service.begun == [0.0, 1.0]
    assert service.ended == {0: "cancelled", 1: "ok"}
    snapshot = policy.snapshot()
    assert (snapshot.calls, snapshot.started, snapshot.won, snapshot.wasted_seconds) == (1, 1, 1, 1.5)


async def test_a_primary_that_answers_after_all_wins_and_its_hedge_is_cancelled() -> None:
    policy, service = hedge(), Attempts(Attempt(1.25), Attempt(60))
    assert await Pipeline("svc", policy).call(service) == 0
    assert now() == 1.25
    assert service.ended == {0: "ok", 1: "cancelled"}
    snapshot = policy.snapshot()
    assert (snapshot.started, snapshot.won, snapshot.wasted_seconds) == (1, 0, 0.25)


@pytest.mark.parametrize("primary", [Attempt(60, cleanup=2), Attempt(3.5, stubborn=True)])
async def test_the_call_waits_for_a_loser_that_takes_its_time_to_end(primary: Attempt) -> None:
    service = Attempts(primary, Attempt(0.5))
    assert await Pipeline("svc", hedge()).call(service) == 1
    assert now() == 3.5
    assert service.running == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_call_waits_for_a_hedge_that_takes_its_time_to_end() -> None:
    service = Attempts(Attempt(1.5), Attempt(60, cleanup=2))
    assert await Pipeline("svc", hedge()).call(service) == 0
    assert now() == 3.5


async def test_several_hedges_begin_a_delay_apart() -> None:
    policy, service = hedge(max_hedges=2), Attempts(Attempt(60), Attempt(60), Attempt(0.5))
    assert await Pipeline("svc", policy).call(service) == 2
    assert service.begun == [0.0, 1.0, 2.0]
    assert service.hedges == [0, 1, 2]
    assert service.ended == {0: "cancelled", 1: "cancelled", 2: "ok"}
    assert (policy.snapshot().started, policy.snapshot().won) == (2, 1)


async def test_none_begins_after_the_call_has_ended() -> None:
    policy, service = hedge(max_hedges=2), Attempts(Attempt(1.5), Attempt(60))
    assert await Pipeline("svc", policy).call(service) == 0
    await asyncio.sleep(10)
    assert len(service.begun) == 2


async def test_none_begins_where_the_most_is_none() -> None:
    policy, service = hedge(max_hedges=0), Attempts(Attempt(5))
    assert await Pipeline("svc", policy).call(service) == 0
    assert policy.snapshot().started == 0


async def test_an_error_of_one_waits_for_the_other() -> None:
    service = Attempts(Attempt(1.5, ConnectionError("primary")), Attempt(5))
    assert await Pipeline("svc", hedge()).call(service) == 1
    service = Attempts(Attempt(5), Attempt(0.5, ConnectionError("hedge")))
    assert await Pipeline("svc", hedge()).call(service) == 0


@pytest.mark.parametrize("seconds", [0.5, 5])
async def test_where_all_fail_the_first_ones_error_is_raised(seconds: float) -> None:
    service = Attempts(Attempt(2, ConnectionError("primary")), Attempt(seconds, ConnectionError("hedge")))
    with pytest.raises(ConnectionError, match="primary"):
        await Pipeline("svc", hedge()).call(service)
    assert len(service.begun) == 2


async def test_an_error_that_a_new_attempt_may_cure_begins_the_hedge_at_once() -> None:
    service = Attempts(Attempt(0.25, ConnectionError()), Attempt(0.5))
    assert await Pipeline("svc", hedge()).call(service) == 1
    assert now() == 0.75


async def test_an_error_of_a_hedge_begins_the_next_at_once() -> None:
    service = Attempts(Attempt(60), Attempt(0.25, ConnectionError()), Attempt(0.5))
    assert await Pipeline("svc", hedge(max_hedges=2)).call(service) == 2
    assert service.begun == [0.0, 1.0, 1.25]


class Busy(Exception):
    """An answer that asks for a pause."""

    status_code = 503
    headers = {"retry-after": "5"}  # noqa: RUF012


@pytest.mark.parametrize("error", [ValueError(), Busy()])
async def test_an_error_that_a_new_attempt_does_not_cure_or_that_asks_for_a_pause_begins_none(
    error: Exception,
) -> None:
    service = Attempts(Attempt(0.25, error), Attempt(0.5))
    with pytest.raises(type(error)):
        await Pipeline("svc", hedge()).call(service)
    assert len(service.begun) == 1


async def test_errors_begin_none_where_that_is_not_wanted() -> None:
    service = Attempts(Attempt(0.25, ConnectionError()), Attempt(0.5))
    with pytest.raises(ConnectionError):
        await Pipeline("svc", hedge(on_failure=False)).call(service)
    assert len(service.begun) == 1


async def test_a_result_that_is_judged_a_failure_is_hedged_and_given_back_where_nothing_better_came() -> None:
    pipeline = Pipeline("svc", hedge(), is_failure=lambda number: number == 0)
    assert await pipeline.call(Attempts(Attempt(0.25))) == 1
    assert await Pipeline("svc", hedge(), is_failure=lambda number: True).call(Attempts(Attempt(0.25))) == 0


async def test_arguments_and_a_key_of_an_outer_retry_are_those_of_every_attempt() -> None:
    seen: list[tuple[Any, ...]] = []

    async def work(*args: Any, **kwargs: Any) -> None:
        seen.append((args, kwargs))
        await asyncio.sleep(2)

    retry = Retry(2, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="key")
    await Pipeline("svc", retry, hedge()).call(work, 1, b=2)
    assert seen[0] == seen[1]
    assert seen[0][1]["key"]


async def test_losers_are_neutral_to_a_breaker_inside() -> None:
    breaker = CircuitBreaker(fail_max=1)
    pipeline = Pipeline("svc", hedge(), breaker)
    assert await pipeline.call(Attempts(Attempt(60), Attempt(0.5))) == 1
    assert await pipeline.call(Attempts(Attempt(1.5), Attempt(60))) == 0
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.successes, snapshot.failures, snapshot.neutral) == ("closed", 2, {}, 2)


async def test_an_attempt_timeout_inside_cuts_each_attempt() -> None:
    service = Attempts(Attempt(60), Attempt(60), Attempt(0.5))
    pipeline = Pipeline("svc", Retry(2, multiplier=0.0), hedge(), Timeout(1.5))
    assert await pipeline.call(service) == 2
    assert service.begun == [0.0, 1.0, 2.5]
    assert service.ended == {0: "cancelled", 1: "cancelled", 2: "ok"}


async def test_a_primary_that_answers_its_interruption_with_an_error_has_lost_all_the_same() -> None:
    policy, begun = hedge(max_hedges=2), 0

    async def work() -> int:
        nonlocal begun
        begun += 1
        if current_hedge():
            await asyncio.sleep(0.5)
            return current_hedge()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError from None
        return 0

    assert await Pipeline("svc", policy).call(work) == 1
    assert begun == 2
    assert policy.snapshot().wasted_seconds == 1.5
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_hedge_that_somebody_else_cancels_is_no_answer() -> None:
    policy, service = hedge(), Attempts(Attempt(3), Attempt(60))
    call = asyncio.ensure_future(Pipeline("svc", policy).call(service))
    await asyncio.sleep(1.5)
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "hedge 1 of svc"]
    task.cancel()
    assert await call == 0
    assert now() == 3


async def test_a_plain_function_is_refused_at_decoration() -> None:
    with pytest.raises(TypeError, match="a hedge is a second task"):

        @with_hedge(1.0)
        def work() -> None: ...


async def test_a_decorated_function_is_hedged() -> None:
    @with_hedge(1.0)
    async def work() -> int:
        await asyncio.sleep(60 if current_hedge() == 0 else 0.5)
        return current_hedge()

    assert await work() == 1
    assert now() == 1.5


class Request:
    """An argument of a call; gone when nobody holds the call's frames any more."""


@pytest.mark.parametrize("script", [(Attempt(60), Attempt(0.5)), (Attempt(1.5), Attempt(60))])
async def test_nothing_is_left_for_the_garbage_collector(script: tuple[Attempt, ...]) -> None:
    pipeline = Pipeline("svc", hedge())
    request = Request()
    watched = weakref.ref(request)
    gc.collect()
    gc.disable()
    try:
        await pipeline.call(Attempts(*script), request)
        del request
        await settle()
        assert watched() is None
    finally:
        gc.enable()
