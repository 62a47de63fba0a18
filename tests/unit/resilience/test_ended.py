"""The path without exceptions: how a call ended is given as a value."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Ended,
    Fallback,
    Outcome,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    Value,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue


async def answer(*parts: str, end: str = "") -> str:
    return "".join(parts) + end


async def fail() -> str:
    raise ConnectionError("down")


def plain(text: str) -> str:
    if not text:
        raise KeyError
    return text


def five(**options: Any) -> Pipeline:
    breaker = CircuitBreaker("svc", fail_max=1)
    return Pipeline("svc", Timeout(9), Bulkhead(1), Retry(jitter="none"), breaker, Timeout(5), **options)


def calls(pipeline: Pipeline) -> dict[str, float]:
    samples = [sample for meter in pipeline.meters() for sample in meter.samples()]
    counted = {s.labels[-1]: s.value for s in samples if s.name == "resilience_calls_total"}
    return {end: value for end, value in counted.items() if not isinstance(value, HistogramValue)}


async def test_a_success_is_a_value() -> None:
    ended = await five().try_call(answer, "a", "b", end="c")
    assert (ended.ok, ended.value, ended.error, ended.unwrap()) == (True, "abc", None, "abc")
    assert ended.verdict.outcome is Outcome.SUCCESS
    assert repr(ended) == "Ended('abc')"


async def test_a_failure_is_a_value_with_what_it_means() -> None:
    pipeline = five()
    ended = await pipeline.try_call(fail)
    assert (ended.ok, ended.value) == (False, None)
    assert isinstance(ended.error, ConnectionError)
    assert (ended.verdict.outcome, ended.verdict.unavailable) == (Outcome.FAILURE, True)
    assert repr(ended) == "Ended(error=ConnectionError('down'))"
    with pytest.raises(ConnectionError) as caught:
        ended.unwrap()
    assert caught.value is ended.error
    assert calls(pipeline) == {"success": 0, "failure": 1, "neutral": 0}


async def test_an_open_circuit_is_handed_over_without_having_been_raised() -> None:
    pipeline = five()
    await pipeline.try_call(fail)
    ended = await pipeline.try_call(answer)
    assert isinstance(ended.error, CircuitOpen)
    assert (ended.error.__traceback__, ended.error.retry_after) == (None, 60)
    assert ended.verdict.outcome is Outcome.NEUTRAL
    assert calls(pipeline) == {"success": 0, "failure": 1, "neutral": 1}


async def test_a_cut_is_a_value_and_a_cancellation_passes() -> None:
    pipeline = Pipeline("svc", Timeout(5))
    ended = await pipeline.try_call(asyncio.sleep, 60)
    assert isinstance(ended.error, TimedOut)
    task = asyncio.ensure_future(pipeline.try_call(asyncio.sleep, 60))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls(pipeline) == {"success": 0, "failure": 1, "neutral": 1}


async def test_a_result_that_is_judged_a_failure_is_there_and_not_ok() -> None:
    ended = await five(is_failure=lambda result: result == "bad").try_call(answer, "bad")
    assert (ended.ok, ended.value, ended.error, ended.unwrap()) == (False, "bad", None, "bad")
    assert ended.verdict.outcome is Outcome.FAILURE
    assert repr(ended) == "Ended('bad', ok=False)"


async def test_it_goes_through_policies_in_the_general_form() -> None:
    pipeline = Pipeline("svc", Fallback(Value("instead")), CircuitBreaker("svc"))
    assert await pipeline.try_call(fail) == Ended(pipeline.site, "instead")


@pytest.mark.parametrize("end", ["result", "error"])
async def test_switched_off_it_gives_values_too(end: str) -> None:
    pipeline = five()
    pipeline.site.bypassed = True
    ended: Ended[str] = await pipeline.try_call(answer if end == "result" else fail)
    assert ended.ok is (end == "result")
    assert calls(pipeline) == {"success": 0, "failure": 0, "neutral": 0}


def test_plain_functions_have_it_too() -> None:
    pipeline = Pipeline("svc", Bulkhead(1), CircuitBreaker("svc"))
    assert pipeline.try_call_sync(plain, "text").unwrap() == "text"
    assert isinstance(pipeline.try_call_sync(plain, "").error, KeyError)
    with pytest.raises(TypeError, match="cannot guard the plain function"):
        Pipeline("svc", Timeout(1)).try_call_sync(plain, "text")


async def test_ends_are_compared_by_what_they_hold_and_are_no_truth_values() -> None:
    pipeline = five()
    one = await pipeline.try_call(answer, "a")
    assert one == await pipeline.try_call(answer, "a")
    assert one != await pipeline.try_call(answer, "b")
    assert one != "a"
    with pytest.raises(TypeError, match="ok"):
        bool(one)
    with pytest.raises(AttributeError):
        one.value = "other"  # type: ignore[misc]


async def test_a_failed_end_leaves_nothing_for_the_garbage_collector() -> None:
    class Request:
        """An argument of a call."""

    async def fail(request: Request) -> None:
        raise ConnectionError

    pipeline = five()
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):  # the second is refused
            request = Request()
            gone = weakref.ref(request)
            ended = await pipeline.try_call(fail, request)
            del request, ended
            assert gone() is None
    finally:
        gc.enable()
