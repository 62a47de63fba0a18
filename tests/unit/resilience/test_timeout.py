"""The timeout policy: whom it cuts and when, and what is said about it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    ConfigurationError,
    DeadlineExceeded,
    Event,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    registry,
    subscribe,
    timeout,
    with_timeout,
)
from mcp_server_langgraph.resilience._machines.timers import MAX_LENGTHS, queue_for
from mcp_server_langgraph.resilience._time_guards import TimeGuard
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.testing import advance, run


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> int:
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)


def pipeline_of(kind: str, seconds: float, name: str = "p") -> Pipeline:
    """The first call of a pipeline on a loop takes another path than those after it."""
    policies = (Timeout(seconds),) if kind.startswith("total") else (Retry(1), Timeout(seconds))
    pipeline = Pipeline(name, *policies)
    guard = pipeline.bound[-1]
    assert isinstance(guard, TimeGuard)
    if "later" in kind:
        guard.find_queue(asyncio.get_running_loop(), seconds)
    return pipeline


BOTH = pytest.mark.parametrize("kind", ["total", "attempt"])
EACH = pytest.mark.parametrize("kind", ["total", "total, later", "attempt", "attempt, later"])


@EACH
async def test_a_call_that_takes_too_long_is_cut(kind: str) -> None:
    with pytest.raises(TimedOut) as caught:
        await pipeline_of(kind, 2).call(asyncio.sleep, 5)
    assert now() == 2
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.pipeline, caught.value.seconds, caught.value.clock) == (
        "p",
        2,
        kind.partition(",")[0],
    )
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_each_attempt_has_its_time_and_all_together_have_theirs() -> None:
    begun: list[float] = []

    async def hang() -> None:
        begun.append(now())
        await asyncio.sleep(60)

    with pytest.raises(TimedOut) as caught:
        await Pipeline("p", Timeout(5), Retry(9, multiplier=0), Timeout(2)).call(hang)
    assert (begun, now()) == ([0, 2, 4], 5)
    assert (caught.value.clock, caught.value.seconds) == ("total", 5)


@EACH
async def test_a_call_that_ends_in_time_gives_its_result(kind: str) -> None:
    assert await pipeline_of(kind, 2).call(asyncio.sleep, 1.9, "done") == "done"


@EACH
async def test_a_timeout_error_of_the_function_is_its_own(kind: str) -> None:
    own = TimeoutError("mine")

    async def fail() -> None:
        await asyncio.sleep(1)
        raise own

    with pytest.raises(TimeoutError) as caught:
        await pipeline_of(kind, 2).call(fail)
    assert caught.value is own


@EACH
async def test_an_error_of_the_function_while_it_is_cut_is_its_own(kind: str) -> None:
    async def fail() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            raise KeyError("while closing")

    with pytest.raises(KeyError):
        await pipeline_of(kind, 2).call(fail)


@EACH
async def test_a_function_that_answers_though_it_was_cut_has_answered(kind: str) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return "anyway"
        raise AssertionError

    async def call() -> tuple[str, int]:
        task = asyncio.current_task()
        assert task is not None
        return await pipeline_of(kind, 2).call(stubborn), task.cancelling()

    assert await asyncio.create_task(call()) == ("anyway", 0)


@EACH
@pytest.mark.parametrize("at", [1.0, 2.0], ids=["earlier", "in the same turn"])
async def test_a_cancellation_from_outside_stays_one(kind: str, at: float) -> None:
    task = asyncio.create_task(pipeline_of(kind, 2).call(asyncio.sleep, 5))
    asyncio.get_running_loop().call_at(at, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert task.cancelling() == 1
    await asyncio.sleep(5)


@EACH
async def test_a_task_that_was_cancelled_before_can_still_be_cut(kind: str) -> None:
    async def cleanup() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            with pytest.raises(TimedOut):
                await pipeline_of(kind, 2).call(asyncio.sleep, 5)
        return f"cut at {now()}, asked to cancel {task.cancelling()} time"

    assert await asyncio.create_task(cleanup()) == "cut at 2.0, asked to cancel 1 time"


@pytest.mark.parametrize("outer", ["total", "total, later", "attempt", "attempt, later"])
@pytest.mark.parametrize("inner", ["total", "total, later", "attempt", "attempt, later"])
@pytest.mark.parametrize(("outside", "inside"), [(2, 3), (3, 2), (2, 2)])
async def test_of_two_around_each_other_the_shorter_cuts_and_of_equals_the_outer(
    outer: str, inner: str, outside: float, inside: float
) -> None:
    task = asyncio.current_task()
    assert task is not None
    around, within = pipeline_of(outer, outside, "around"), pipeline_of(inner, inside, "within")
    with pytest.raises(TimedOut) as caught:
        await around.call(within.call, asyncio.sleep, 5)
    assert caught.value.pipeline == ("within" if inside < outside else "around")
    assert now() == 2
    assert task.cancelling() == 0
    await asyncio.sleep(5)


@EACH
async def test_a_task_may_enter_one_pipeline_again_and_again(kind: str) -> None:
    pipeline = pipeline_of(kind, 4)

    async def deep(level: int) -> int:
        if level == 0:
            await asyncio.sleep(3)
            return 0
        return 1 + await pipeline.call(deep, level - 1)

    assert await deep(5) == 5

    async def deep_and_slow(level: int) -> None:
        if level:
            await asyncio.sleep(1)
            await pipeline.call(deep_and_slow, level - 1)
        await asyncio.sleep(10)

    started = now()
    with pytest.raises(TimedOut):
        await pipeline.call(deep_and_slow, 3)
    assert now() == started + 4
    await asyncio.sleep(10)


@BOTH
async def test_two_thousand_tasks_under_one_policy_are_cut_in_the_order_they_came(kind: str) -> None:
    pipeline = pipeline_of(kind, 100)
    ends: list[tuple[int, float]] = []

    async def one(place: int) -> None:
        try:
            await pipeline.call(asyncio.get_running_loop().create_future)
        except TimedOut:
            ends.append((place, now()))

    tasks = []
    for place in range(2000):
        tasks.append(asyncio.create_task(one(place)))
        if place % 100 == 99:
            await advance(1)
    assert timers() == 1, "one timer, not one for each"
    await asyncio.gather(*tasks)
    assert ends == [(place, 100.0 + place // 100) for place in range(2000)]


@BOTH
async def test_no_timer_is_left_for_a_call_that_has_ended(kind: str) -> None:
    pipeline = pipeline_of(kind, 100)
    for _ in range(50):
        await pipeline.call(asyncio.sleep, 0)
    queue = queue_for(asyncio.get_running_loop(), 100)
    assert queue is not None
    assert not queue.entries
    assert timers() == 1


async def calls_across_a_reload(kind: str, before: float, after: float) -> list[tuple[str, float]]:
    variable = {"total": "TIMEOUT", "attempt": "ATTEMPT_TIMEOUT"}[kind]
    registry.reload({f"REDIS_{variable}": str(before)})
    policies = (Timeout(),) if kind == "total" else (Retry(1), Timeout())
    pipeline = Pipeline("redis", *policies)
    ends = []

    async def one(name: str) -> None:
        with pytest.raises(TimedOut) as caught:
            await pipeline.call(asyncio.sleep, 1000)
        assert caught.value.seconds == (before if name == "old" else after)
        ends.append((name, now()))

    old = asyncio.create_task(one("old"))
    await advance(1)
    registry.reload({f"REDIS_{variable}": str(after)})
    await asyncio.gather(old, one("new"))
    return ends


@BOTH
async def test_changed_seconds_hold_for_calls_that_begin_from_now_on(kind: str) -> None:
    assert await calls_across_a_reload(kind, before=10, after=2) == [("new", 3), ("old", 10)]


@BOTH
async def test_longer_seconds_do_too(kind: str) -> None:
    assert await calls_across_a_reload(kind, before=2, after=10) == [("old", 2), ("new", 11)]


async def test_a_change_in_flight_does_not_mix_up_timeouts_around_each_other() -> None:
    registry.reload({"LLM_ATTEMPT_TIMEOUT": "1"})
    around, changing = Pipeline("x", Retry(1), Timeout(2)), Pipeline("llm", Retry(1), Timeout())

    async def reload_meanwhile() -> None:
        registry.reload({"LLM_ATTEMPT_TIMEOUT": "2"})
        await asyncio.create_task(changing.call(asyncio.sleep, 0))

    async def work() -> None:
        await changing.call(reload_meanwhile)
        await asyncio.sleep(10)

    with pytest.raises(TimedOut) as caught:
        await around.call(work)
    assert (caught.value.pipeline, now()) == ("x", 2)
    await asyncio.sleep(5)


@BOTH
def test_loops_in_two_threads_may_share_one_policy(kind: str) -> None:
    pipeline = pipeline_of(kind, 5)
    rounds = threading.Barrier(2)
    ends: list[float] = []

    async def main() -> None:
        for _ in range(50):
            rounds.wait()
            await pipeline.call(asyncio.sleep, 1)
            rounds.wait()
            try:
                await pipeline.call(asyncio.sleep, 9)
            except TimedOut:
                ends.append(now())

    threads = [threading.Thread(target=run, args=(main(),), kwargs={"strict": True}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == sorted([6.0 * turn for turn in range(1, 51)] * 2)


@BOTH
def test_a_policy_outlives_its_loop(kind: str) -> None:
    pipeline = pipeline_of(kind, 5)

    async def main() -> float:
        with pytest.raises(TimedOut):
            await pipeline.call(asyncio.sleep, 9)
        return now()

    assert [run(main(), strict=True) for _ in range(3)] == [5, 5, 5]


@BOTH
async def test_policies_of_more_lengths_than_the_loop_keeps_queues_for_all_cut_in_time(kind: str) -> None:
    async def one(seconds: float) -> tuple[float, float]:
        with pytest.raises(TimedOut):
            await pipeline_of(kind, seconds).call(asyncio.sleep, 1000)
        return seconds, now()

    lengths = [float(length) for length in range(1, 2 * MAX_LENGTHS)]
    assert await asyncio.gather(*map(one, reversed(lengths))) == [(each, each) for each in reversed(lengths)]


@EACH
async def test_where_nothing_is_left_the_call_is_not_begun(kind: str) -> None:
    reached = False

    async def reach() -> None:
        nonlocal reached
        reached = True

    async def late() -> None:
        await asyncio.sleep(5)
        with pytest.raises(DeadlineExceeded) as caught:
            await pipeline_of(kind, 3).call(reach)
        assert caught.value.pipeline == "p"

    async with timeout(10) as block:
        task = asyncio.create_task(late())
        await advance(1)
        block.reschedule(4)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.shield(task)
    assert not reached


@BOTH
async def test_a_cut_is_counted_with_its_time_and_told(kind: str) -> None:
    pipeline = pipeline_of(kind, 2)
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append)
    with pytest.raises(TimedOut):
        await pipeline.call(asyncio.sleep, 5)
    await pipeline.call(asyncio.sleep, 1)
    unsubscribe()
    numbers = {metric.name: metric.samples.get(("p", "p")) for metric in registry.metrics()}
    assert numbers["timeout_violations_total"] == 1
    durations = numbers["timeout_duration_seconds"]
    assert isinstance(durations, HistogramValue)
    assert (sum(durations.counts), durations.sum) == (1, 2)
    told = [(event.pipeline, event.details) for event in heard if event.kind == "timeout"]
    assert told == [("p", {"operation": "p", "seconds": 2, "clock": kind})]


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"seconds": -1}, {"first_item": 0}, {"idle": float("nan")}]
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}=.* must be above 0 seconds"):
        Timeout(**options)


def test_its_settings_are_shown() -> None:
    assert repr(Timeout(3)) == "Timeout(seconds=3)"
    assert repr(Timeout(3, first_item=1, idle=0.5)) == "Timeout(seconds=3, first_item=1, idle=0.5)"


async def test_the_decorator_takes_the_policys_options() -> None:
    @with_timeout(seconds=2)
    async def slow() -> None:
        await asyncio.sleep(5)

    with pytest.raises(TimedOut) as caught:
        await slow()
    assert caught.value.seconds == 2


async def test_an_attempt_after_a_cancellation_that_was_forgotten_is_still_cut() -> None:
    """As under ``asyncio.timeout``: what was asked of the task before the block began is not its concern."""
    attempts = 0

    async def forgetful() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise ConnectionError
        await asyncio.sleep(60)

    with pytest.raises(TimedOut) as caught:
        await Pipeline("p", Retry(2, jitter="none"), Timeout(5)).call(forgetful)
    assert (caught.value.clock, attempts) == ("attempt", 2)
