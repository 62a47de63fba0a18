"""How long each attempt took, by how it ended; and the whole calls beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Pipeline,
    Policy,
    Retry,
    Value,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue

Form = Callable[[Pipeline], Callable[..., Awaitable[Any]]]
FORMS = pytest.mark.parametrize(
    "form", [lambda pipeline: pipeline.call, lambda pipeline: pipeline.try_call], ids=["call", "try_call"]
)


def told(name: str) -> dict[str, tuple[int, float]]:
    """How many and their sum, by the last label."""
    [metric] = [metric for metric in registry.metrics() if metric.name == name]
    values = {labels[-1]: value for labels, value in metric.samples.items()}
    return {
        label: (sum(value.counts), round(value.sum, 6))
        for label, value in values.items()
        if isinstance(value, HistogramValue) and sum(value.counts)
    }


def attempts() -> dict[str, tuple[int, float]]:
    return told("resilience_attempt_duration_seconds")


def calls() -> tuple[int, float]:
    return told("resilience_call_duration_seconds").get("p", (0, 0.0))


def retry(**options: Any) -> Retry:
    return Retry(3, jitter="none", multiplier=1, base=1, **options)


class Steps:
    """Takes so many seconds each time, and raises where they are negative."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    async def __call__(self) -> str:
        seconds = self.seconds.pop(0)
        await asyncio.sleep(abs(seconds))
        if seconds < 0:
            raise ConnectionError
        return "ok"


@FORMS
@pytest.mark.parametrize("inside", [(), (Policy(),)], ids=["fused", "a policy that runs inside"])
async def test_a_call_of_one_attempt_is_timed_once_for_both(form: Form, inside: tuple[Policy, ...]) -> None:
    call = form(Pipeline("p", retry(), *inside))
    for seconds in (0.25, 2.0):
        await call(Steps(seconds))
    assert (attempts(), calls()) == ({"success": (2, 2.25)}, (2, 2.25))


@FORMS
async def test_each_attempt_of_a_call_has_its_own_time_and_end(form: Form) -> None:
    call = form(Pipeline("p", Bulkhead(1), retry()))
    await call(Steps(-0.25, -3, 0.5))
    assert attempts() == {"retried": (2, 3.25), "success": (1, 0.5)}
    assert calls() == (1, 0.25 + 1 + 3 + 1 + 0.5)


@FORMS
async def test_the_wait_for_a_place_is_part_of_the_call_and_not_of_its_attempt(form: Form) -> None:
    call = form(Pipeline("p", Bulkhead(1), retry()))
    await asyncio.gather(call(Steps(2)), call(Steps(1)))
    assert (attempts(), calls()) == ({"success": (2, 3)}, (2, 2 + 3))


async def test_the_last_attempt_of_a_call_that_fails_is_timed_whatever_it_raised() -> None:
    pipeline = Pipeline("p", retry())
    await pipeline.try_call(Steps(-1, -1, -4))
    with pytest.raises(TypeError):
        await pipeline.call(len)
    assert (attempts(), calls()) == ({"retried": (2, 2), "failed": (2, 4)}, (0, 0))


async def test_what_was_refused_or_cancelled_was_no_attempt_to_time() -> None:
    breaker = CircuitBreaker("p")
    breaker.force_open()
    await Pipeline("p", retry(), breaker).try_call(Steps(1))
    task = asyncio.ensure_future(Pipeline("q", retry()).call(Steps(5)))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert attempts() == {}


async def test_a_bad_result_that_is_given_back_failed() -> None:
    pipeline = Pipeline("p", retry(), is_failure=lambda result: result == "ok")
    assert await pipeline.call(Steps(1, 1, 2)) == "ok"
    assert attempts() == {"retried": (2, 2), "failed": (1, 2)}


async def test_behind_a_policy_that_answers_itself_attempts_are_timed_apart() -> None:
    pipeline = Pipeline("p", Fallback(Value("instead")), retry())
    assert await pipeline.call(Steps(2)) == "ok"
    assert await pipeline.call(Steps(-1, 0.5)) == "ok"
    assert (await pipeline.call(Steps(-1, -1, -1))) == "instead"
    assert attempts() == {"success": (2, 2.5), "retried": (3, 3), "failed": (1, 1)}
    assert calls() == (3, 2 + (1 + 1 + 0.5) + 5)


async def test_the_attempt_of_a_stream_ends_with_its_first_item() -> None:
    script = Steps(-2, 3, 4, 4)

    async def items() -> AsyncGenerator[str, None]:
        while script.seconds:
            yield await script()

    pipeline = Pipeline("p", retry())
    assert [item async for item in pipeline.stream(items)] == ["ok"] * 3
    script.seconds = [1, 1]
    assert [item async for item in pipeline.stream(items)] == ["ok"] * 2
    assert attempts() == {"retried": (1, 2), "success": (2, 3 + 1)}
    assert calls() == (2, (2 + 1 + 3 + 4 + 4) + 2)


async def test_the_event_of_a_retry_tells_what_the_attempt_took() -> None:
    took: list[float] = []
    end = subscribe(lambda event: took.append(event.details["took"]) if event.kind == "retry" else None)
    await Pipeline("p", retry()).call(Steps(-0.5, -2, 1))
    end()
    assert took == [0.5, 2]
