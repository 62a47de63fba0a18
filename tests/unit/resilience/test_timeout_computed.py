"""A timeout whose seconds are computed for each call: from what, whom it cuts, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from decimal import Decimal
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    ConfigurationError,
    Fallback,
    Pipeline,
    Retry,
    StreamInterrupted,
    TimedOut,
    Timeout,
    Value,
    current_attempt,
    registry,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience._machines.timers import MAX_LENGTHS
from tests.support.clock import now


def as_asked(seconds: object = None, **_: object) -> Any:
    """The seconds that the call carries."""
    return seconds


async def hang(seconds: object = None, *, wait: float = 1000) -> None:
    await asyncio.sleep(wait)


def pipeline_of(kind: str, computed: Callable[..., Any] = as_asked, name: str = "p") -> Pipeline:
    computing = Timeout(9, seconds_for=computed)
    return Pipeline(name, *([computing] if kind == "total" else [Retry(1), computing]))


BOTH = pytest.mark.parametrize("kind", ["total", "attempt"])


@BOTH
async def test_each_call_has_the_seconds_that_its_arguments_say(kind: str) -> None:
    pipeline = pipeline_of(kind)

    async def one(*args: float, **kwargs: float) -> tuple[float, float, str]:
        with pytest.raises(TimedOut) as caught:
            await pipeline.call(hang, *args, **kwargs)
        return caught.value.seconds, now(), caught.value.clock

    ends = await asyncio.gather(one(5), one(seconds=2), one())
    assert ends == [(5, 5, kind), (2, 2, kind), (9, 9, kind)]


@BOTH
async def test_a_call_in_time_is_not_cut_and_leaves_no_timer_and_no_deadline(kind: str) -> None:
    pipeline = pipeline_of(kind)
    loop: Any = asyncio.get_running_loop()
    for seconds in range(1, 3 * MAX_LENGTHS):
        await pipeline.call(hang, float(seconds), wait=0.5)
    assert remaining() is None
    assert sum(not handle.cancelled() for handle in loop._scheduled) <= MAX_LENGTHS


@BOTH
async def test_calls_of_one_length_share_a_timer(kind: str) -> None:
    pipeline = pipeline_of(kind)
    loop: Any = asyncio.get_running_loop()
    cut = asyncio.gather(*(pipeline.call(hang, 5) for _ in range(50)), return_exceptions=True)
    await asyncio.sleep(0)
    assert len(loop._scheduled) == 50 + 1  # each call's own sleep, and the one
    assert all(isinstance(end, TimedOut) for end in await cut)


@BOTH
async def test_of_many_lengths_in_flight_each_has_a_timer_that_ends_with_its_call(kind: str) -> None:
    pipeline = pipeline_of(kind)
    loop: Any = asyncio.get_running_loop()
    lengths = [100.0 + length for length in range(2 * MAX_LENGTHS)]
    calls = [asyncio.ensure_future(pipeline.call(hang, length, wait=1)) for length in lengths]
    await asyncio.gather(*calls)
    assert sum(not handle.cancelled() for handle in loop._scheduled) <= MAX_LENGTHS
    ends = await asyncio.gather(*(pipeline.call(hang, each) for each in lengths), return_exceptions=True)
    assert [end.seconds for end in ends if isinstance(end, TimedOut)] == lengths


async def test_a_total_is_inherited_and_an_attempts_is_not() -> None:
    async def seen(seconds: float) -> float | None:
        return remaining()

    assert await pipeline_of("total").call(seen, 3) == 3
    assert await pipeline_of("attempt").call(seen, 3) is None


async def test_it_is_asked_again_for_each_attempt() -> None:
    begun: list[float] = []

    async def down() -> None:
        begun.append(now())
        await asyncio.sleep(1000)

    computing = Timeout(seconds_for=lambda: 2.0 * current_attempt())
    pipeline = Pipeline("p", Retry(3, jitter="none", multiplier=1, base=1), computing)
    with pytest.raises(TimedOut):
        await pipeline.call(down)
    assert (begun, now()) == ([0, 3, 8], 14)


@BOTH
async def test_the_callers_deadline_comes_first(kind: str) -> None:
    async def child() -> None:
        with pytest.raises(TimedOut) as caught:
            await pipeline_of(kind).call(hang, 5)
        assert (caught.value.clock, caught.value.seconds, now()) == ("inherited", 2, 2)

    with contextlib.suppress(TimedOut):
        async with timeout(2):
            task = asyncio.create_task(child())
            await asyncio.sleep(1000)
    await task


@BOTH
@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan"), Decimal(2), [3]], ids=repr)
async def test_what_is_no_time_is_refused_with_who_gave_it_and_nothing_hides_that(
    kind: str, wrong: object
) -> None:
    bulkhead, reached = Bulkhead(1), []

    async def called(seconds: object) -> None:
        reached.append(seconds)

    computing = Timeout(seconds_for=as_asked)
    policies = (bulkhead, computing) if kind == "total" else (bulkhead, Retry(3), computing)
    pipeline = Pipeline("p", Fallback(Value("hidden")), *policies)
    with pytest.raises(ConfigurationError) as caught:
        await pipeline.call(called, wrong)
    assert str(caught.value) == (
        f"Timeout: seconds_for=as_asked gave {wrong!r}; it must give a number of seconds above 0, or None"
    )
    assert (reached, bulkhead.snapshot().active, now()) == ([], 0, 0)


async def test_what_it_raises_passes_and_is_a_bug_of_ours() -> None:
    def wrong(*args: object) -> float:
        raise KeyError("size")

    pipeline = Pipeline("p", Retry(3), Timeout(seconds_for=wrong))
    with pytest.raises(KeyError):
        await pipeline.call(hang)
    assert now() == 0


@BOTH
async def test_infinity_is_no_limit(kind: str) -> None:
    await pipeline_of(kind).call(hang, float("inf"), wait=10**6)
    assert now() == 10**6


async def test_the_clock_of_a_stream_is_computed_too() -> None:
    async def stalls(seconds: float) -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(1000)

    items = pipeline_of("total").stream(stalls, 4)
    assert await anext(items) == 1
    with pytest.raises(StreamInterrupted) as caught:
        await anext(items)
    assert isinstance(caught.value.__cause__, TimedOut)
    assert now() == 4


@pytest.mark.parametrize(("kind", "variable"), [("total", "P_TIMEOUT"), ("attempt", "P_ATTEMPT_TIMEOUT")])
async def test_the_operators_number_for_the_service_comes_first(kind: str, variable: str) -> None:
    pipeline = pipeline_of(kind)
    registry.reload({"DEFAULT_TIMEOUT": "3", "ATTEMPT_TIMEOUT": "3"})
    assert await seconds_of(pipeline) == 5
    registry.reload({variable: "2"})
    assert await seconds_of(pipeline) == 2
    assert "seconds_for" not in pipeline.describe()["policies"][-1]
    registry.reload({})
    assert await seconds_of(pipeline) == 5


async def seconds_of(pipeline: Pipeline) -> float:
    with pytest.raises(TimedOut) as caught:
        await pipeline.call(hang, 5)
    return caught.value.seconds


def test_descriptions_tell_who_computes_and_promise_no_worst_case() -> None:
    described = Pipeline("p", Timeout(9, seconds_for=as_asked), Retry(), Timeout(10)).describe()
    assert described["policies"][0] == {"policy": "timeout", "seconds": 9, "seconds_for": "as_asked"}
    assert described["seconds"] > 9
    assert "doubts" not in described


async def never() -> float:
    return 1.0


class Never:
    async def __call__(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    "wrong", [3, never, functools.partial(never), Never()], ids=lambda it: type(it).__name__
)
def test_only_a_plain_function_can_compute(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"seconds_for=.* must be a plain function of the call"):
        Timeout(seconds_for=wrong)
