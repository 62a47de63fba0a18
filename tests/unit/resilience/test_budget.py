"""The budget of retries and hedges: who pays, who is counted, and what is told."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
import weakref
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Budget,
    Bulkhead,
    ConfigurationError,
    Event,
    Pipeline,
    Retry,
    registry,
    retry_with_backoff,
    subscribe,
)
from mcp_server_langgraph.resilience.budget import forget, shared
from tests.support.dependency import Dependency, down


class Counter:
    """Counts calls, as a policy at its site does."""

    def __init__(self) -> None:
        self.first = 0

    def calls(self) -> int:
        return self.first


def spend(budget: Budget, wanted: int, now: float) -> int:
    return sum(budget.spend(now) for _ in range(wanted))


# Who is counted


async def test_traffic_of_all_that_share_a_budget_counts() -> None:
    budget, one, other = Budget(per_second=0), Counter(), Counter()
    one.first = 1000
    budget.watch(one.calls)
    budget.watch(other.calls)
    assert spend(budget, 9, 0.0) == 0  # what came before the budget watched is not its traffic
    one.first += 20
    other.first += 30
    assert spend(budget, 99, 0.0) == 9


async def test_of_counters_of_the_same_calls_only_the_first_is_read() -> None:
    budget, site, outer, inner = Budget(per_second=0), Counter(), Counter(), Counter()
    budget.watch(outer.calls, site)
    budget.watch(inner.calls, site)
    outer.first = inner.first = 50
    assert spend(budget, 99, 0.0) == 9


async def test_a_counter_that_is_gone_is_forgotten_and_leaves_nothing_behind() -> None:
    budget, counter = Budget(per_second=0), Counter()
    budget.watch(counter.calls)
    counter.first = 50
    assert spend(budget, 4, 0.0) == 4
    gone = weakref.ref(counter)
    del counter
    gc.collect()
    assert gone() is None
    assert spend(budget, 99, 0.0) == 5
    assert budget._sources == []


async def test_a_pipeline_that_nobody_holds_is_not_held_by_a_budget() -> None:
    budget = Budget()
    pipeline = Pipeline("svc", Retry(budget=budget))
    gone = weakref.ref(pipeline)
    del pipeline
    gc.collect()
    assert gone() is None


async def test_a_function_is_a_counter_too_and_one_that_is_reset_does_no_harm() -> None:
    numbers = [0, 50, 10, 60]
    budget = Budget(per_second=0)
    budget.watch(lambda: numbers.pop(0))
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, True]


# Who pays


async def test_a_refused_retry_raises_the_last_error_with_a_note_and_an_event() -> None:
    told: list[Event] = []
    end = subscribe(told.append)
    dependency = Dependency(*down())
    pipeline = Pipeline("svc", Retry(3, jitter="none", budget=Budget(0.2, per_second=0)))
    with pytest.raises(ConnectionError) as caught:
        await pipeline.call(dependency)
    end()
    assert len(dependency.times) == 1
    assert caught.value.__notes__ == ["resilience: attempt 1 in 0 s; the retry budget is used up (svc)"]
    assert [(event.kind, event.pipeline, event.details) for event in told] == [
        ("budget_refused", "svc", {"policy": "retry", "error": "ConnectionError"})
    ]


async def test_a_process_that_makes_its_first_call_ever_may_make_its_default_retries() -> None:
    dependency = Dependency(*down(2))
    assert await Pipeline("svc", Retry(multiplier=0)).call(dependency) == "fine"


async def test_every_retry_has_a_budget_unless_it_is_told_otherwise() -> None:
    attempts = []
    for budget in (None, Budget.unlimited()):
        dependency = Dependency(*down())
        with pytest.raises(ConnectionError):
            await Pipeline("svc", Retry(50, multiplier=0, budget=budget)).call(dependency)
        attempts.append(len(dependency.times))
    assert attempts == [4, 50]


async def test_what_never_begins_costs_nothing() -> None:
    budget = Budget()
    pipeline = Pipeline("svc", Retry(2, multiplier=0, budget=budget))
    with pytest.raises(TypeError):
        await pipeline.call(Dependency(TypeError()))
    with pytest.raises(ConnectionError):
        await pipeline.call(Dependency(*down()))
    assert (budget.spent, budget.refused) == (1, 0)


async def test_pipelines_that_share_a_budget_pay_from_one_purse() -> None:
    budget = Budget(0, per_second=1)
    reached = 0
    for name in ("read", "write"):
        dependency = Dependency(*down())
        with pytest.raises(ConnectionError):
            await Pipeline(name, Retry(3, multiplier=0, budget=budget)).call(dependency)
        reached += len(dependency.times)
    assert reached == 2 + 3


def test_plain_functions_and_threads_pay_from_the_same_purse() -> None:
    budget = Budget(0, per_second=1)
    reached: list[int] = []

    def fails() -> None:
        reached.append(1)
        raise ConnectionError

    guarded = retry_with_backoff(3, multiplier=0, budget=budget)(fails)

    def one() -> None:
        with pytest.raises(ConnectionError):
            guarded()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reached) == 8 + 3
    assert budget.spent == 3


# Names, settings, numbers


async def test_the_same_name_is_the_same_budget_as_long_as_somebody_holds_it() -> None:
    one = shared("svc")
    assert shared("svc") is one
    assert shared("other") is not one
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    kept = shared("svc")
    forget()
    assert shared("svc") is not kept


async def test_a_service_of_its_own_overrules_code_and_code_the_global_setting() -> None:
    registry.reload({"RETRY_BUDGET_RATIO": "0.5", "SVC_RETRY_BUDGET_PER_SECOND": "7"})
    pipelines = [
        Pipeline(name, Retry(budget=Budget(ratio, per_second=2)))
        for name in ("svc", "x")
        for ratio in (None, 0.3)
    ]
    seen = [pipeline.policies[0].budget.snapshot() for pipeline in pipelines]  # type: ignore[attr-defined]
    assert [(each.ratio, each.per_second) for each in seen] == [(0.5, 7), (0.3, 7), (0.5, 2), (0.3, 2)]
    off = Pipeline("svc", Retry(budget=Budget.unlimited())).policies[0].budget  # type: ignore[attr-defined]
    assert off.ratio == math.inf
    registry.reload({"SVC_RETRY_BUDGET_RATIO": "0"})
    assert off.ratio == 0


async def test_the_balance_and_the_refusals_are_metrics_of_the_service() -> None:
    budget = Budget()
    pipelines = [Pipeline(name, Retry(9, multiplier=0, budget=budget)) for name in ("svc", "other")]
    with pytest.raises(ConnectionError):
        await pipelines[0].call(Dependency(*down()))
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert numbers["retry_budget_balance"] == {("svc",): 0}
    assert numbers["retry_budget_refused_total"] == {("svc",): 1}
    await asyncio.sleep(2)
    snapshot = budget.snapshot()
    assert (snapshot.balance, snapshot.spent, snapshot.refused) == (2, 3, 1)
    assert Budget.unlimited().snapshot().balance == math.inf


async def test_in_a_stack_of_decorators_the_budget_is_called_as_the_breaker_is() -> None:
    from mcp_server_langgraph.resilience import circuit_breaker

    budget = Budget()

    @circuit_breaker(name="svc")
    @retry_with_backoff(budget=budget)
    async def guarded() -> None: ...

    assert budget.name == "svc"
    assert Pipeline("x", Bulkhead(), Retry(budget=budget)).name == "x"
    assert budget.name == "svc"
    await guarded()


def test_outside_a_loop_the_clock_is_the_usual_loops() -> None:
    budget = Budget()
    assert spend(budget, 9, time.monotonic()) == 3
    assert budget.snapshot().balance == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"ratio": -0.1}, "ratio=-0.1"),
        ({"ratio": math.nan}, "ratio=nan"),
        ({"per_second": -1}, "per_second=-1"),
        ({"per_second": math.inf}, "per_second=inf"),
        ({"window": 0}, "window=0"),
        ({"window": math.inf}, "window=inf"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Budget(**arguments)
