"""The breaker in a pipeline: what counts, and what callers and onlookers are told."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Event,
    Pipeline,
    Retry,
    Timeout,
    timeout,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.breaker_calls import call, fine, gauge, transitions


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


# What counts


@pytest.mark.parametrize(
    "error", [ConnectionError(), StatusError(503), StatusError(408), TimeoutError(), RuntimeError()]
)
async def test_it_opens_after_so_many_failures_in_a_row(error: Exception) -> None:
    breaker = CircuitBreaker("svc", fail_max=3)
    pipeline = Pipeline("svc", breaker)
    for failure in (error, error, None, error, error):
        await call(pipeline, failure)
    assert breaker.state == "closed"
    assert await call(pipeline, error) is error
    assert breaker.state == "open"
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.successes) == ({type(error).__name__: 5}, 1)


@pytest.mark.parametrize(
    "error",
    [
        *(
            StatusError(400),
            StatusError(401),
            StatusError(404),
            StatusError(429),
            TypeError(),
            ValueError(),
            KeyError(),
        ),
        *(asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), BulkheadFull("elsewhere")),
    ],
    ids=repr,
)
async def test_what_says_nothing_about_the_dependency_is_not_counted_in_any_state(
    error: BaseException,
) -> None:
    breaker = CircuitBreaker("svc", fail_max=2, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    for _ in range(5):
        assert await call(pipeline, error) is error
    assert (breaker.state, breaker.snapshot().consecutive_failures) == ("closed", 1)
    await call(pipeline, ConnectionError())
    await asyncio.sleep(10)
    for _ in range(5):
        assert await call(pipeline, error) is error
    assert (breaker.state, breaker.snapshot().probes, breaker.snapshot().neutral) == ("half_open", 0, 10)


async def test_our_own_time_running_out_is_a_failure_and_the_callers_is_not() -> None:
    breaker = CircuitBreaker("svc", fail_max=9)
    total = Pipeline("svc", Timeout(5), Retry(1), breaker)
    attempt = Pipeline("svc", Retry(1), breaker, Timeout(5))
    for pipeline in (total, attempt):
        with pytest.raises(TimeoutError):
            await pipeline.call(asyncio.sleep, 60)
        with pytest.raises(TimeoutError):
            async with timeout(1):
                await pipeline.call(asyncio.sleep, 60)
    snapshot = breaker.snapshot()
    assert (sum(snapshot.failures.values()), snapshot.neutral) == (2, 2)


async def test_only_expected_exceptions_can_be_failures() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, expected_exception=(ConnectionError, TypeError))
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, TimeoutError())
    await call(pipeline, TypeError("the classifier has the last word"))
    assert breaker.state == "closed"
    await call(pipeline, ConnectionRefusedError())
    assert breaker.state == "open"


async def test_a_result_that_is_judged_bad_is_a_failure_and_is_given_back() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, expected_exception=ConnectionError)
    pipeline = Pipeline("svc", breaker, is_failure=lambda result: result == "fine")
    assert await pipeline.call(fine) == "fine"
    assert breaker.state == "open"


# What callers are told


async def test_an_open_breaker_says_who_refused_and_when_to_come_back() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("search", breaker)
    await call(pipeline, ConnectionError())
    await asyncio.sleep(4)
    refusal = await call(pipeline)
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, refusal.pipeline, refusal.policy) == (6, "svc", "circuit_breaker")
    assert str(refusal) == "circuit_breaker of 'svc' is open; retry after 6 s"


async def test_while_a_probe_is_out_nobody_knows_when_to_come_back() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    await asyncio.sleep(10)
    probe = asyncio.ensure_future(pipeline.call(asyncio.sleep, 5))
    await settle()
    refusal = await call(pipeline)
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after is None
    await probe


async def test_events_tell_each_transition_and_each_refusal(events: list[Event]) -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    await call(pipeline)
    await asyncio.sleep(10)
    await call(pipeline)
    assert [(event.kind, event.pipeline, event.details) for event in events] == [
        ("state_change", "svc", {"before": "closed", "after": "open", "because": "fail_max"}),
        ("rejected", "svc", {"policy": "circuit_breaker"}),
        ("state_change", "svc", {"before": "open", "after": "half_open"}),
        ("state_change", "svc", {"before": "half_open", "after": "closed"}),
    ]
    assert transitions() == {"open": 1, "half_open": 1, "closed": 1}
    assert gauge() == {"closed"}


async def test_the_snapshot_has_every_number() -> None:
    breaker = CircuitBreaker("svc", fail_max=2, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await asyncio.sleep(3)
    for error in (None, TypeError(), ConnectionError(), ConnectionError()):
        await call(pipeline, error)
    await call(pipeline)
    shown = breaker.snapshot()
    assert (shown.name, shown.state, shown.automatic, shown.opened_at) == ("svc", "open", "open", 3)
    assert (shown.successes, shown.failures, shown.neutral) == (1, {"ConnectionError": 2}, 1)
    assert (shown.rejected, shown.would_reject, shown.consecutive_failures, shown.probes) == (1, 0, 2, 0)
    assert pipeline.snapshot()["circuit_breaker"] == shown


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"fail_max": -1}, "fail_max=-1"),
        ({"fail_max": 0}, "fail_max=0 needs a failure_rate or a slow_rate"),
        ({"fail_max": 1.5}, "fail_max=1.5"),
        ({"fail_max": "5"}, "fail_max='5'"),
        ({"half_open_max": 0}, "half_open_max=0"),
        ({"success_threshold": math.nan}, "success_threshold=nan"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"lease": -1}, "lease=-1"),
        ({"failure_rate": 0}, "failure_rate=0"),
        ({"failure_rate": 1.1}, "failure_rate=1.1"),
        ({"slow_rate": math.nan, "slow_after": 1}, "slow_rate=nan"),
        ({"slow_rate": 0.5}, "slow_rate=0.5 needs slow_after"),
        ({"slow_after": 0}, "slow_after=0"),
        ({"window": 0}, "window=0"),
        ({"window_seconds": -1}, "window_seconds=-1"),
        ({"window": 5, "window_seconds": 5}, "window=5 .* exclude each other"),
        ({"minimum_calls": 0}, "minimum_calls=0"),
        ({"backoff": 0.9}, "backoff=0.9"),
        ({"backoff": math.inf}, "backoff=inf"),
        ({"timeout_max": 0}, "timeout_max=0"),
        ({"jitter": 1.5}, "jitter=1.5"),
        ({"ramp": -1}, "ramp=-1"),
    ],
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'svc': {word}"):
        CircuitBreaker("svc", **options)


def test_eight_threads_that_fail_together_open_it_once(events: list[Event]) -> None:
    breaker = CircuitBreaker("svc", fail_max=4, timeout=1000)
    barrier = threading.Barrier(8)
    pipeline = Pipeline("svc", breaker)

    @pipeline
    def fail_together() -> None:
        barrier.wait(30)
        raise ConnectionError

    def thread() -> None:
        with pytest.raises(ConnectionError):
            fail_together()

    threads = [threading.Thread(target=thread, daemon=True) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert [event.details["after"] for event in events if event.kind == "state_change"] == ["open"]
    shown = breaker.snapshot()
    assert (shown.failures, shown.consecutive_failures, transitions()) == (
        {"ConnectionError": 8},
        4,
        {"open": 1},
    )


async def test_each_break_in_a_row_lasts_longer_until_it_was_closed_for_as_long_as_the_first() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10, timeout_max=40, jitter=0)
    pipeline = Pipeline("svc", breaker)
    loop = asyncio.get_running_loop()

    async def break_lasts() -> float:
        await call(pipeline, ConnectionError())
        began = loop.time()
        with pytest.raises(CircuitOpen) as caught:
            await pipeline.call(fine)
        assert caught.value.retry_after is not None
        await asyncio.sleep(caught.value.retry_after)
        return loop.time() - began

    assert [await break_lasts() for _ in range(4)] == [10, 20, 40, 40]
    await call(pipeline)
    assert (breaker.state, await break_lasts()) == ("closed", 40)
    await call(pipeline)
    await asyncio.sleep(10)
    assert (breaker.state, await break_lasts()) == ("closed", 10)
