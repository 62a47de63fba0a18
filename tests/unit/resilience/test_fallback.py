"""The fallback: for what it answers, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Event,
    Fallback,
    Outcome,
    Pipeline,
    RateLimited,
    RetriesExhausted,
    Retry,
    Rung,
    TimedOut,
    Timeout,
    Value,
    Verdict,
    collect_degradations,
    registry,
    subscribe,
    timeout,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.unit.resilience.fallback_helpers import answer, raising


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers={})


def wrapped(cause: Exception) -> RetriesExhausted:
    exhausted = RetriesExhausted("s", 3, 1.0)
    exhausted.__cause__ = cause
    return exhausted


def named(exc: BaseException) -> str:
    return f"{type(exc).__name__} {exc} {type(exc.__cause__).__name__ if exc.__cause__ else ''}"


# For what


@pytest.mark.parametrize(
    "exc",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        StatusError(503),
        StatusError(529),
        StatusError(408),
        CircuitOpen("s", 3.0),
        TimedOut("s", 1.0, "attempt"),
        TimedOut("s", 1.0, "total"),
        wrapped(ConnectionError()),
    ],
    ids=named,
)
async def test_it_answers_for_unavailability(exc: Exception) -> None:
    assert await answer(exc) == "instead"


@pytest.mark.parametrize(
    "exc",
    [
        TypeError("bug"),
        KeyError("bug"),
        ValueError("bug"),
        PermissionError(),
        StatusError(400),
        StatusError(401),
        StatusError(403),
        StatusError(404),
        StatusError(429),
        BulkheadFull("s"),
        RateLimited("s", 2.0),
        DeadlineExceeded("s"),
        TimedOut("s", 1.0, "inherited"),
        wrapped(TypeError()),
        RuntimeError("nobody knows what this is"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=named,
)
async def test_it_never_answers_for_anything_else(exc: BaseException) -> None:
    async def call() -> Any:
        try:
            return await answer(exc)
        except BaseException as raised:
            return raised

    with collect_degradations() as notes:
        assert await call() is exc
    assert notes == []


async def test_the_classifier_has_the_last_word_on_what_unavailability_is() -> None:
    def classifier(exc: BaseException) -> Verdict:
        return Verdict(Outcome.NEUTRAL, unavailable=isinstance(exc, KeyError))

    pipeline = Pipeline("s", Fallback(Value("instead")), classifier=classifier)
    assert await pipeline.call(raising(KeyError())) == "instead"
    with pytest.raises(ConnectionError):
        await pipeline.call(raising(ConnectionError()))


async def test_an_open_circuit_and_a_full_bulkhead_at_work() -> None:
    pipeline = Pipeline(
        "s", Fallback(Value("instead")), Bulkhead(1, max_queue=0), CircuitBreaker("b", fail_max=1)
    )
    assert await pipeline.call(raising(ConnectionError())) == "instead"
    assert await pipeline.call(asyncio.sleep, 0, "real") == "instead"
    pipeline = Pipeline("s", Fallback(Value("instead")), Bulkhead(1, max_queue=0))
    busy = asyncio.create_task(pipeline.call(asyncio.sleep, 1, "real"))
    await settle()
    with pytest.raises(BulkheadFull):
        await pipeline.call(asyncio.sleep, 0)
    assert await busy == "real"


@pytest.mark.parametrize("also", [(), (Exception,)])
async def test_a_deadline_of_the_caller_is_not_fallen_back_from(also: tuple[type[Exception], ...]) -> None:
    pipeline = Pipeline("s", Fallback(Value("instead"), also=also), Timeout(20), CircuitBreaker("b"))
    with pytest.raises(TimedOut) as caught:
        async with timeout(2, name="caller"):
            await pipeline.call(asyncio.sleep, 50)
    assert caught.value.pipeline == "caller"
    async with timeout(2):
        child = asyncio.create_task(pipeline.call(asyncio.sleep, 50))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(50)
        with pytest.raises(TimedOut, match="inherited"):
            await child
        with pytest.raises(DeadlineExceeded):
            await pipeline.call(asyncio.sleep, 0)
    samples = {metric.name: metric.samples for metric in registry.metrics()}
    assert samples["fallback_used_total"] == {}


# What is said


async def test_an_answer_of_a_rung_is_noted_counted_and_told() -> None:
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append)
    pipeline = Pipeline("s", Fallback(Rung(Value(1), source="a constant")))
    with collect_degradations() as notes:
        await pipeline.call(raising(ConnectionError("secret words")))
    unsubscribe()
    assert [(note.service, note.reason, note.source, note.age) for note in notes] == [
        ("s", "ConnectionError", "a constant", None)
    ]
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert numbers["fallback_used_total"] == {("s", "a constant"): 1}
    assert numbers["fallback_failed_total"] == {("s",): 0}
    told = [(event.kind, event.pipeline, event.details) for event in heard]
    assert told == [("fallback", "s", {"source": "a constant", "error": "ConnectionError"})]


async def test_the_breaker_does_not_count_a_fallback_as_a_success() -> None:
    pipeline = Pipeline("s", Fallback(Value("instead")), CircuitBreaker("b", fail_max=3))
    for _ in range(5):
        assert await pipeline.call(raising(ConnectionError())) == "instead"
    snapshot = pipeline.snapshot()["circuit_breaker"]
    assert (snapshot.state, snapshot.successes, snapshot.failures) == ("open", 0, {"ConnectionError": 3})


async def test_what_a_broken_rung_says_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await answer(ConnectionError(), rungs=(raising(ValueError("the prompt was: xyzzy")), Value(1)))
    assert "ValueError" in caplog.text
    assert "xyzzy" not in caplog.text


async def test_switched_off_nothing_is_answered_for() -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    with pytest.raises(ConnectionError):
        await answer(ConnectionError())


async def test_it_belongs_outermost() -> None:
    with pytest.raises(
        ConfigurationError, match="fallback inside retry: its answers would count as successes"
    ):
        Pipeline("s", Retry(), Fallback(Value(1)))
