"""Deadline, criticality and attempt, in headers and in threads."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    ConfigurationError,
    Criticality,
    DeadlineExceeded,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    carried,
    criticality,
    current_attempt,
    current_criticality,
    current_deadline,
    in_thread,
    incoming,
    outgoing_headers,
    registry,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.propagation import ATTEMPT


def count(metric: str) -> dict[tuple[str, ...], Any]:
    return next(each.samples for each in registry.metrics() if each.name == metric)


def test_the_attempt_is_the_first_one_where_nothing_was_retried() -> None:
    assert current_attempt() == 1
    reset = ATTEMPT.set(2)
    try:
        assert current_attempt() == 2
    finally:
        ATTEMPT.reset(reset)
    assert current_attempt() == 1


# Out


async def test_headers_tell_what_is_left_rounded_down_the_criticality_and_the_attempt() -> None:
    assert outgoing_headers() == {"x-request-criticality": "critical", "x-request-attempt": "1"}
    async with timeout(1.5):
        await asyncio.sleep(0.2503)
        with criticality(Criticality.SHEDDABLE_PLUS):
            headers = outgoing_headers()
    assert headers == {
        "x-request-timeout-ms": "1249",
        "x-request-criticality": "sheddable_plus",
        "x-request-attempt": "1",
    }


async def test_a_deadline_without_an_end_sends_no_time() -> None:
    async with timeout(None):
        assert "x-request-timeout-ms" not in outgoing_headers()


async def test_each_attempt_of_a_retry_sends_its_number() -> None:
    sent: list[str] = []

    async def down() -> None:
        sent.append(outgoing_headers()["x-request-attempt"])
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await Pipeline("s", Retry(max_attempts=3)).call(down)
    assert sent == ["1", "2", "3"]


# In


async def test_what_came_in_binds_everything_inside() -> None:
    headers = {"x-request-timeout-ms": "2000", "x-request-criticality": "sheddable", "x-request-attempt": "3"}
    async with incoming(headers) as came:
        assert (came.seconds, came.criticality, came.attempt) == (2.0, Criticality.SHEDDABLE, 3)
        assert remaining() == 2.0
        assert current_criticality() is Criticality.SHEDDABLE
        assert current_attempt() == 1
        await asyncio.sleep(0.5)
        assert outgoing_headers() == {
            "x-request-timeout-ms": "1500",
            "x-request-criticality": "sheddable",
            "x-request-attempt": "1",
        }
    assert remaining() is None
    assert current_criticality() is Criticality.CRITICAL
    assert count("incoming_repeated_total") == {("server",): 1}


async def test_an_attempt_of_our_own_is_not_taken_for_an_attempt_of_what_we_call() -> None:
    reset = ATTEMPT.set(2)
    try:
        with incoming({}):
            assert current_attempt() == 1
        assert current_attempt() == 2
    finally:
        ATTEMPT.reset(reset)
    assert count("incoming_repeated_total") == {}


async def test_the_block_is_cut_when_the_callers_time_runs_out() -> None:
    with pytest.raises(TimedOut) as raised, incoming({"grpc-timeout": "2S"}, service="api"):
        await asyncio.sleep(60)
    assert (raised.value.pipeline, raised.value.seconds, raised.value.clock) == ("api", 2.0, "inherited")
    assert asyncio.get_running_loop().time() == 2.0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_from_outside_passes_as_one() -> None:
    async def handler() -> None:
        async with incoming({"grpc-timeout": "2S"}):
            await asyncio.sleep(60)

    task = asyncio.create_task(handler())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_pipeline_inside_is_neutral_about_the_callers_time() -> None:
    pipeline = Pipeline("s", Timeout(10))
    with pytest.raises(TimedOut) as raised:
        async with incoming({"grpc-timeout": "2S"}):
            await pipeline.call(asyncio.sleep, 60)
    assert raised.value.clock == "inherited"
    calls = count("resilience_calls_total")
    assert calls[("s", "s", "neutral")] == 1
    assert calls[("s", "s", "failure")] == 0


async def test_it_is_never_longer_than_what_is_inherited() -> None:
    async with timeout(1):
        async with incoming({"grpc-timeout": "5S"}) as came:
            assert (came.seconds, remaining()) == (1.0, 1.0)
        async with incoming({}) as came:
            assert (came.seconds, remaining()) == (1.0, 1.0)
    async with incoming({}) as came:
        assert (came.seconds, remaining()) == (None, None)


async def test_a_margin_is_kept_back_for_the_way_to_the_caller() -> None:
    async with incoming({"grpc-timeout": "5S"}, margin=0.5):
        assert remaining() == 4.5


@pytest.mark.parametrize(
    ("left", "options"),
    [("0m", {}), ("500m", {"minimum": 0.5}), ("200m", {"margin": 0.2}), ("300m", {"margin": 0.5})],
)
async def test_what_comes_too_late_is_refused_and_counted(left: str, options: dict[str, float]) -> None:
    with pytest.raises(DeadlineExceeded):
        async with incoming({"grpc-timeout": left}, service="api", **options):
            pytest.fail("begun")
    assert count("deadline_expired_total") == {("api",): 1}
    assert remaining() is None
    assert current_criticality() is Criticality.CRITICAL


async def test_pipelines_that_find_the_deadline_passed_count_it() -> None:
    total, attempt = Pipeline("total", Timeout(5)), Pipeline("attempt", Retry(), Timeout(5))

    async def items() -> Any:
        yield 1

    async def too_late() -> None:
        with incoming({"grpc-timeout": "1S"}):
            try:
                await asyncio.sleep(2)
            finally:
                for pipeline in (total, attempt):
                    with pytest.raises(DeadlineExceeded):
                        await pipeline.call(asyncio.sleep, 0)
                with pytest.raises(DeadlineExceeded):
                    await anext(total.stream(items))

    with pytest.raises(TimedOut):
        await too_late()
    assert count("deadline_expired_total") == {("total",): 2, ("attempt",): 1}


@pytest.mark.parametrize("sent", list(Criticality))
@pytest.mark.parametrize("allowed", list(Criticality))
def test_a_caller_lowers_its_criticality_and_never_raises_it_beyond_what_we_allow(
    sent: Criticality, allowed: Criticality
) -> None:
    with incoming({"x-request-criticality": sent.name}, max_criticality=allowed):
        assert current_criticality() == min(sent, allowed)


def test_a_caller_that_says_nothing_is_bounded_too() -> None:
    with incoming({}, max_criticality=Criticality.SHEDDABLE):
        assert current_criticality() is Criticality.SHEDDABLE


async def test_what_cannot_be_read_is_logged_for_debugging_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_server_langgraph.resilience")
    with incoming({"grpc-timeout": "soon", "x-request-criticality": "vip"}) as came:
        assert (came.seconds, came.criticality) == (None, Criticality.CRITICAL)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "grpc-timeout, x-request-criticality" in caplog.text
    assert "vip" not in caplog.text


async def test_it_is_entered_once_and_its_seconds_are_not_negative() -> None:
    block = incoming({})
    with block:
        pass
    with pytest.raises(RuntimeError, match="only once"), block:
        pass
    with pytest.raises(ConfigurationError, match="margin=-1"):
        incoming({}, margin=-1)
    with pytest.raises(ConfigurationError, match="minimum"):
        incoming({}, minimum=float("nan"))


# Threads


async def test_a_thread_knows_what_is_left() -> None:
    async with timeout(30):
        assert await asyncio.to_thread(remaining) == 30


async def test_a_carried_function_knows_it_in_any_executor_and_after_its_call_was_cut() -> None:
    with ThreadPoolExecutor(1) as pool:
        async with timeout(30):
            with criticality(Criticality.SHEDDABLE):
                job = carried(lambda: (remaining(), current_criticality(), current_deadline() is not None))
        left, level, there = await asyncio.get_running_loop().run_in_executor(pool, job)
        bare = await asyncio.get_running_loop().run_in_executor(pool, remaining)
    assert left is not None
    assert 29 < left <= 30
    assert (level, there) == (Criticality.SHEDDABLE, True)
    assert bare is None


async def test_what_outlives_the_job_in_the_thread_is_not_bound_by_its_deadline() -> None:
    left: list[float | None] = []
    contexts: list[contextvars.Context] = []

    def job() -> None:
        contexts.append(contextvars.copy_context())
        left.append(contexts[0].run(remaining))

    async with timeout(30):
        await in_thread(job)
        assert left[0] is not None
        assert contexts[0].run(remaining) != left[0]
    assert contexts[0].run(remaining) is None


async def test_in_thread_carries_and_gives_what_the_function_gives() -> None:
    async with timeout(30):
        left = await in_thread(remaining)
    assert left is not None
    assert 29 < left <= 30
    assert await in_thread(lambda *, key: key, key="value") == "value"
    assert await in_thread(remaining) is None


async def test_what_waited_for_a_thread_beyond_its_deadline_is_not_begun() -> None:
    with incoming({"grpc-timeout": "1n"}):
        job = carried(lambda: pytest.fail("begun"))
    time.sleep(0.000001)  # noqa: ASYNC251 (the clock of threads is real)
    with pytest.raises(DeadlineExceeded):
        job()
    assert count("deadline_expired_total") == {("thread",): 1}


async def test_a_plain_pipeline_in_a_thread_does_not_retry_beyond_the_deadline() -> None:
    calls: list[float | None] = []

    def down() -> None:
        calls.append(remaining())
        raise ConnectionError

    pipeline = Pipeline("s", Retry(max_attempts=3, multiplier=50, wait_max=50, jitter="none"))
    async with timeout(30):
        with pytest.raises(ConnectionError):
            await in_thread(pipeline.call_sync, down)
    assert len(calls) == 1


async def test_an_event_loop_in_a_thread_is_bound_too() -> None:
    def in_its_own_loop() -> str:
        async def main() -> str:
            try:
                await Pipeline("s", Timeout(60)).call(asyncio.sleep, 60)
            except TimedOut as error:
                return error.clock
            return "not cut"

        return asyncio.run(main())

    async with timeout(0.05):
        job = carried(in_its_own_loop)
    assert await asyncio.to_thread(job) == "inherited"


def test_without_a_loop_it_cuts_nothing_but_is_known() -> None:
    with incoming({"grpc-timeout": "30S", "x-request-criticality": "sheddable"}):
        left = remaining()
        assert left is not None
        assert 29 < left <= 30
        headers = outgoing_headers()
        with incoming({"grpc-timeout": "60S"}) as came:
            assert came.seconds is not None
            assert came.seconds <= left
    assert remaining() is None
    assert headers["x-request-criticality"] == "sheddable"


def _in_another_process(headers: dict[str, str]) -> tuple[float | None, str]:
    with incoming(headers):
        return remaining(), current_criticality().name


@pytest.mark.real_time
async def test_headers_take_it_to_another_process() -> None:
    loop = asyncio.get_running_loop()
    async with timeout(30):
        with criticality(Criticality.SHEDDABLE), ProcessPoolExecutor(1) as pool:
            left, level = await loop.run_in_executor(pool, _in_another_process, outgoing_headers())
    assert left is not None
    assert 20 < left <= 30
    assert level == "SHEDDABLE"
