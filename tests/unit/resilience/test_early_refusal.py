"""An open circuit refuses before anything else is done, where nothing that stands outside has to act before."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Outcome,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    Verdict,
    classify,
    current_deadline,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.policy import Guard, Site


async def fail() -> None:
    raise ConnectionError


async def answer() -> str:
    return "answer"


async def open_circuit(pipeline: Pipeline) -> None:
    with contextlib.suppress(ConnectionError):
        await pipeline.call(fail)


def numbers(pipeline: Pipeline) -> dict[tuple[str, ...], float]:
    samples = [sample for meter in pipeline.meters() for sample in meter.samples()]
    return {(s.name, *s.labels): s.value for s in samples if not isinstance(s.value, HistogramValue)}


def five(bulkhead: Bulkhead | None = None) -> list[Policy]:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=60)
    return [Timeout(9), bulkhead or Bulkhead(1, max_wait=0), Retry(3, jitter="none"), breaker, Timeout(5)]


async def test_it_counts_what_a_refusal_at_its_place_would_count() -> None:
    pipeline = Pipeline("svc", *five())
    await open_circuit(pipeline)
    before = numbers(pipeline)
    with pytest.raises(CircuitOpen) as caught:
        await pipeline.call(answer)
    after = numbers(pipeline)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        ("circuit_breaker_rejected_total", "svc"): 1,
        ("resilience_calls_total", "svc", "svc", "neutral"): 1,
        ("retry_attempts_total", "svc", "1"): 1,
    }
    assert (caught.value.retry_after, caught.value.__context__, current_deadline()) == (60, None, None)


async def test_it_comes_before_a_full_bulkhead() -> None:
    bulkhead = Bulkhead(1, max_wait=0)
    pipeline = Pipeline("svc", *five(bulkhead))
    await open_circuit(pipeline)
    bulkhead.places.free.pop()
    with pytest.raises(CircuitOpen):
        await pipeline.call(answer)
    pipeline.policies[3].reset()  # type: ignore[attr-defined]
    with pytest.raises(BulkheadFull):
        await pipeline.call(answer)
    assert bulkhead.snapshot().rejected == 1


async def test_when_the_time_is_over_the_call_goes_its_usual_way() -> None:
    pipeline = Pipeline("svc", *five())
    await open_circuit(pipeline)
    await asyncio.sleep(60)
    assert await pipeline.call(answer) == "answer"


async def test_a_classifier_of_ones_own_is_asked_about_it() -> None:
    def mine(exc: BaseException) -> Verdict:
        return Verdict(Outcome.FAILURE) if isinstance(exc, CircuitOpen) else classify(exc)

    pipeline = Pipeline("svc", *five(), classifier=mine)
    await open_circuit(pipeline)
    with pytest.raises(CircuitOpen):
        await pipeline.call(answer)
    counted = numbers(pipeline)
    assert counted["resilience_calls_total", "svc", "svc", "failure"] == 2
    assert counted["resilience_calls_total", "svc", "svc", "neutral"] == 0


class Counted(Policy):
    """Counts every call that comes by."""

    def __init__(self) -> None:
        self.entered = 0

    def bind(self, site: Site) -> Guard:
        return _Counting(self)


class _Counting(Guard):
    def __init__(self, policy: Counted) -> None:
        self.policy = policy

    def enter(self, now: float) -> Any:
        self.policy.entered += 1


async def test_a_guard_that_does_not_give_way_hears_of_the_call_first() -> None:
    counted = Counted()
    pipeline = Pipeline("svc", counted, *five())
    await open_circuit(pipeline)
    with pytest.raises(CircuitOpen):
        await pipeline.call(answer)
    assert counted.entered == 2


async def test_plain_functions_are_refused_early_too() -> None:
    bulkhead = Bulkhead(1, max_wait=0)
    pipeline = Pipeline("svc", bulkhead, CircuitBreaker("svc", fail_max=1))

    def broken() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        pipeline.call_sync(broken)
    bulkhead.places.free.pop()
    with pytest.raises(CircuitOpen):
        pipeline.call_sync(broken)
