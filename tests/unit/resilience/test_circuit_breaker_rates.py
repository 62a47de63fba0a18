"""A breaker in a pipeline that measures: failures and slow calls over windows, those still running too."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    registry,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.breaker_calls import call


def breaker_of(**options: Any) -> tuple[CircuitBreaker, Pipeline]:
    breaker = CircuitBreaker("svc", **{"fail_max": 0, "timeout": 10, "minimum_calls": 4, **options})
    return breaker, Pipeline("svc", breaker)


def rate(metric: str) -> object:
    return next(each.samples.get(("svc",)) for each in registry.metrics() if each.name == metric)


async def test_a_share_of_failures_opens_it_once_there_were_enough_calls() -> None:
    breaker, pipeline = breaker_of(failure_rate=0.5)
    for error in (ConnectionError(), ConnectionError(), None):
        await call(pipeline, error)
    assert (breaker.state, breaker.snapshot().failure_rate) == ("closed", pytest.approx(2 / 3))
    await call(pipeline, TypeError("neutral: no call of the window"))
    assert (breaker.state, breaker.snapshot().measured_calls) == ("closed", 3)
    await call(pipeline, None)
    shown = breaker.snapshot()
    assert (shown.state, shown.because, shown.failure_rate, shown.slow_rate) == (
        "open",
        "failure_rate",
        0.5,
        None,
    )


async def test_failures_in_a_row_open_it_beside_a_rate_unless_they_are_switched_off() -> None:
    for fail_max, state in ((3, "open"), (0, "closed")):
        breaker, pipeline = breaker_of(fail_max=fail_max, failure_rate=1.0, minimum_calls=20)
        for _ in range(19):
            await call(pipeline, ConnectionError())
        assert breaker.state == state
        assert breaker.snapshot().because == ("fail_max" if fail_max else None)


async def test_a_window_of_calls_forgets_by_number_and_one_of_seconds_by_time() -> None:
    by_number, first = breaker_of(failure_rate=0.5, window=4)
    by_time, second = breaker_of(failure_rate=0.5, window_seconds=10)
    for pipeline in (first, second):
        await call(pipeline, ConnectionError())
        await call(pipeline)
        await call(pipeline)
    await asyncio.sleep(11)
    for pipeline in (first, second):
        await call(pipeline, ConnectionError())
    assert (by_number.state, by_time.state) == ("open", "closed")
    assert by_time.snapshot().measured_calls == 1


def gauges() -> dict[str, float]:
    told = {metric.name: list(metric.samples.values()) for metric in registry.metrics()}
    names = ("failure_rate", "slow_rate")
    return {
        name: value for name in names for value in told[f"circuit_breaker_{name}"] if isinstance(value, float)
    }


async def test_rates_over_seconds_fade_though_nobody_calls() -> None:
    breaker, pipeline = breaker_of(
        failure_rate=0.9, slow_rate=0.9, slow_after=9, window_seconds=10, minimum_calls=99
    )
    await call(pipeline, ConnectionError())
    await asyncio.sleep(6)
    await call(pipeline)
    read = []
    for _ in range(3):
        snapshot = breaker.snapshot()
        assert gauges() == {"failure_rate": snapshot.failure_rate, "slow_rate": snapshot.slow_rate}
        read.append((snapshot.measured_calls, snapshot.failure_rate))
        await asyncio.sleep(5)
    assert read == [(2, 0.5), (1, 0.0), (0, 0.0)]


async def test_the_slow_rate_tells_of_a_call_that_has_become_slow_though_nobody_calls() -> None:
    breaker, pipeline = breaker_of(slow_rate=0.9, slow_after=2, window=10, minimum_calls=5)
    await call(pipeline)
    hanging = asyncio.ensure_future(pipeline.call(asyncio.sleep, 4))
    await asyncio.sleep(1.9)
    assert (gauges(), breaker.snapshot().slow_rate) == ({"slow_rate": 0.0}, 0.0)
    await asyncio.sleep(0.1)
    assert (gauges(), breaker.snapshot().slow_rate) == ({"slow_rate": 0.5}, 0.5)
    await hanging
    assert gauges() == {"slow_rate": 0.5}


@pytest.mark.parametrize(("window", "pause"), [({"window": 4}, 0.0), ({"window_seconds": 10}, 11.0)])
async def test_old_successes_in_no_window_of_calls_or_of_seconds_hide_an_outage(
    window: dict[str, float], pause: float
) -> None:
    breaker, pipeline = breaker_of(failure_rate=1.0, **window)
    for _ in range(50):
        await call(pipeline)
    await asyncio.sleep(pause)
    for failure in range(1, 5):
        assert breaker.state == "closed", failure
        await call(pipeline, ConnectionError())
    assert (breaker.state, breaker.snapshot().because) == ("open", "failure_rate")


async def test_slow_answers_open_it_and_a_probe_that_is_slow_keeps_it_open() -> None:
    breaker, pipeline = breaker_of(slow_rate=0.5, slow_after=2, backoff=1)
    for seconds in (0, 0, 1.9, 2):
        await pipeline.call(asyncio.sleep, seconds)
    assert (breaker.state, breaker.snapshot().slow_rate) == ("closed", 0.25)
    for _ in range(2):
        await pipeline.call(asyncio.sleep, 3)
    assert (breaker.state, breaker.snapshot().because) == ("open", "slow_rate")
    await asyncio.sleep(10)
    await pipeline.call(asyncio.sleep, 2)
    assert (breaker.state, breaker.snapshot().because) == ("open", "probe_slow")
    await asyncio.sleep(10)
    await pipeline.call(asyncio.sleep, 1.9)
    assert breaker.state == "closed"


async def test_calls_that_still_run_and_are_slow_already_open_it_before_any_of_them_ends() -> None:
    breaker, pipeline = breaker_of(slow_rate=1.0, slow_after=2)
    calls = [asyncio.ensure_future(pipeline.call(asyncio.sleep, 100)) for _ in range(4)]
    await asyncio.sleep(1.9)
    fifth = asyncio.ensure_future(pipeline.call(asyncio.sleep, 0.05))
    await settle()
    assert (breaker.state, breaker.snapshot().running) == ("closed", 5)
    fifth.cancel()
    await asyncio.sleep(0.1)
    assert isinstance(await call(pipeline), CircuitOpen)
    assert (breaker.snapshot().because, breaker.snapshot().running) == ("slow_rate", 0)
    await asyncio.gather(*calls)
    assert (breaker.state, breaker.snapshot().measured_calls) == ("open", 0), "their period is over"


async def test_a_running_slow_call_is_counted_once_when_it_ends_and_not_at_all_when_it_is_cancelled() -> None:
    breaker, pipeline = breaker_of(slow_rate=1.0, slow_after=2, minimum_calls=10)
    tasks = [asyncio.ensure_future(pipeline.call(asyncio.sleep, 5)) for _ in range(2)]
    await asyncio.sleep(3)
    await call(pipeline)
    assert breaker.snapshot().slow_rate == pytest.approx(2 / 3)
    tasks[0].cancel()
    await settle()
    assert breaker.snapshot().slow_rate == 0.5
    await tasks[1]
    shown = breaker.snapshot()
    assert (shown.slow_rate, shown.measured_calls, shown.running) == (0.5, 2, 0)


async def test_a_slow_failure_is_both() -> None:
    breaker, pipeline = breaker_of(slow_rate=1.0, slow_after=2, failure_rate=1.0, minimum_calls=10)

    async def fails_late() -> None:
        await asyncio.sleep(3)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await pipeline.call(fails_late)
    assert (breaker.snapshot().failure_rate, breaker.snapshot().slow_rate) == (1.0, 1.0)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("outside", [[], [Retry(1)]], ids=["alone", "inside a retry"])
async def test_of_a_stream_only_the_time_to_its_first_item_can_be_slow(
    told: bool, outside: list[Policy]
) -> None:
    class Told:
        def before_call(self, cb: object, func: object, *args: object, **kwargs: object) -> None: ...

    breaker, _ = breaker_of(slow_rate=1.0, slow_after=2, minimum_calls=9, listeners=[Told()] * told)
    pipeline = Pipeline("svc", *outside, breaker)

    async def numbers(first: float) -> AsyncGenerator[int, None]:
        await asyncio.sleep(first)
        yield 1
        await asyncio.sleep(50)
        yield 2

    for first in (1.0, 3.0):
        assert [number async for number in pipeline.stream(numbers, first)] == [1, 2]
    assert (breaker.snapshot().slow_rate, breaker.snapshot().measured_calls) == (0.5, 2)


async def test_the_rates_are_metrics_only_where_they_are_measured() -> None:
    breaker, pipeline = breaker_of(fail_max=5)
    await call(pipeline, ConnectionError())
    assert (rate("circuit_breaker_failure_rate"), rate("circuit_breaker_slow_rate")) == (None, None)
    registry.reset()
    breaker, pipeline = breaker_of(failure_rate=0.9, slow_rate=0.9, slow_after=1)
    await call(pipeline, ConnectionError())
    await pipeline.call(asyncio.sleep, 1)
    assert (rate("circuit_breaker_failure_rate"), rate("circuit_breaker_slow_rate")) == (0.5, 0.5)
    assert breaker.snapshot().state == "closed"


async def test_our_own_total_timeout_is_counted_under_its_name() -> None:
    breaker = CircuitBreaker("svc")
    with pytest.raises(TimeoutError):
        await Pipeline("svc", Timeout(5), breaker).call(asyncio.sleep, 60)
    assert breaker.snapshot().failures == {"TimedOut": 1}


async def test_a_retry_after_that_came_with_the_failures_is_honoured() -> None:
    class Overloaded(Exception):
        status_code = 503
        response = type("Response", (), {"headers": {"retry-after": "25"}, "status_code": 503})()

    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, Overloaded())
    refusal = await call(pipeline)
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after == 25


async def test_while_it_ramps_those_turned_away_are_told_when_to_come_back_and_nobody_waits_for_it() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10, ramp=8)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    await asyncio.sleep(10)
    results = [await call(pipeline) for _ in range(17)]
    assert [result is None for result in results].count(True) == 3, "the probe, the first, and one in eight"
    assert breaker.snapshot().ramping
    assert all(isinstance(each, CircuitOpen) and 0 < (each.retry_after or 0) <= 8 for each in results if each)
    await asyncio.sleep(8)
    assert [await call(pipeline) for _ in range(9)] == [None] * 9
    assert (breaker.snapshot().ramping, breaker.snapshot().rejected) == (False, 14)


def test_threads_that_share_a_measuring_breaker_lose_no_call() -> None:
    breaker = CircuitBreaker(
        "svc", fail_max=0, failure_rate=1.0, slow_rate=1.0, slow_after=60, window=100_000
    )
    pipeline = Pipeline("svc", breaker)

    @pipeline
    def odd(number: int) -> None:
        if number % 2:
            raise ConnectionError

    def thread() -> None:
        for number in range(500):
            with contextlib.suppress(ConnectionError):
                odd(number)

    threads = [threading.Thread(target=thread, daemon=True) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    shown = breaker.snapshot()
    assert (shown.measured_calls, shown.failure_rate, shown.running) == (4000, 0.5, 0)
    assert (shown.successes, shown.failures) == (2000, {"ConnectionError": 2000})
