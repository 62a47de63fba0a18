"""The rate limit in a pipeline: who is let in when, who is refused, and what comes back."""

from __future__ import annotations

import asyncio
import threading
import time as wall
from collections.abc import AsyncGenerator, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Pipeline,
    RateLimit,
    RateLimited,
    Retry,
    Timeout,
    registry,
)
from mcp_server_langgraph.resilience._machines.line import Line, Sleeper
from mcp_server_langgraph.resilience._machines.tokens import TokenBucket
from mcp_server_langgraph.resilience.testing import settle


def time() -> float:
    return asyncio.get_running_loop().time()


async def when() -> float:
    return time()


def numbers(limit: RateLimit) -> tuple[float, int, int]:
    """(permits left, in line, refused), the same in snapshot and metrics."""
    snapshot = limit.snapshot()
    told = {each.name: next(iter(each.samples.values())) for each in registry.metrics() if each.samples}
    names = ("permits_left", "queue_depth", "rejected_total")
    assert [told[f"rate_limit_{name}"] for name in names] == [
        *(snapshot.left, snapshot.waiting, snapshot.rejected)
    ]
    return snapshot.left, snapshot.waiting, snapshot.rejected


async def test_calls_beyond_the_rate_are_refused_and_told_when_to_come_back() -> None:
    limit = RateLimit(2, per=10)
    pipeline = Pipeline("svc", limit)
    await pipeline.call(when)
    await pipeline.call(when)
    with pytest.raises(RateLimited) as caught:
        await pipeline.call(when)
    assert (caught.value.pipeline, caught.value.retry_after) == ("svc", pytest.approx(5))
    assert numbers(limit) == (0, 0, 1)
    await asyncio.sleep(5)
    await pipeline.call(when)
    with pytest.raises(RateLimited):
        await pipeline.call(when)


async def test_those_who_may_wait_come_in_the_order_they_came_each_at_its_time() -> None:
    pipeline = Pipeline("svc", RateLimit(1, per=2, max_wait=100))
    began = time()
    ends = await asyncio.gather(*(pipeline.call(when) for _ in range(5)))
    assert [end - began for end in ends] == pytest.approx([0, 2, 4, 6, 8])


async def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    limit = RateLimit(1, max_wait=2)
    pipeline = Pipeline("svc", limit)
    calls = [asyncio.ensure_future(pipeline.call(when)) for _ in range(4)]
    await settle()
    assert [call.done() for call in calls] == [True, False, False, True]
    with pytest.raises(RateLimited) as caught:
        await calls[3]
    assert caught.value.retry_after == pytest.approx(3)
    await asyncio.gather(*calls[:3])


async def test_a_wait_that_the_deadline_cannot_hold_is_refused_at_once() -> None:
    pipeline = Pipeline("svc", Timeout(3), RateLimit(1, per=3, max_wait=10))
    await pipeline.call(when)
    began = time()
    with pytest.raises(RateLimited):
        await pipeline.call(when)
    assert time() == began


async def test_a_line_of_bounded_length_refuses_the_next() -> None:
    limit = RateLimit(1, max_wait=100, max_queue=1)
    pipeline = Pipeline("svc", limit)
    await pipeline.call(when)
    waiting = asyncio.ensure_future(pipeline.call(when))
    await settle()
    with pytest.raises(RateLimited):
        await pipeline.call(when)
    assert numbers(limit) == (0, 1, 1)
    await waiting


async def test_a_cancelled_wait_takes_nothing_and_those_behind_move_up() -> None:
    limit = RateLimit(1, max_wait=100)
    pipeline = Pipeline("svc", limit)
    await pipeline.call(when)
    began = time()
    first, second, third = (asyncio.ensure_future(pipeline.call(when)) for _ in range(3))
    await asyncio.sleep(0.5)
    first.cancel()
    assert [end - began for end in await asyncio.gather(second, third)] == pytest.approx([1, 2])
    assert first.cancelled()


async def test_one_cancelled_as_its_turn_comes_gives_the_permit_to_the_next() -> None:
    limit = RateLimit(1, max_wait=100)
    pipeline = Pipeline("svc", limit)
    await pipeline.call(when)
    began = time()
    first, second = (asyncio.ensure_future(pipeline.call(when)) for _ in range(2))
    await settle()
    asyncio.get_running_loop().call_later(1, lambda: (limit.line.advance(time()), first.cancel()))
    assert await second - began == pytest.approx(1)
    assert first.cancelled()


async def test_a_newcomer_does_not_overtake_the_line() -> None:
    limit = RateLimit(1, burst=3, max_wait=100, weight=lambda weight: weight)
    pipeline = Pipeline("svc", limit)

    async def work(weight: float) -> float:
        return time()

    await pipeline.call(work, 3.0)
    began = time()
    heavy = asyncio.ensure_future(pipeline.call(work, 3.0))
    await asyncio.sleep(2)
    light = asyncio.ensure_future(pipeline.call(work, 1.0))
    assert [end - began for end in await asyncio.gather(heavy, light)] == pytest.approx([3, 4])


async def test_a_newcomer_at_the_moment_of_a_turn_does_not_take_it() -> None:
    pipeline = Pipeline("svc", RateLimit(1, max_wait=100))
    await pipeline.call(when)
    began = time()
    newcomers: list[asyncio.Task[float]] = []
    asyncio.get_running_loop().call_at(
        began + 1, lambda: newcomers.append(asyncio.ensure_future(pipeline.call(when)))
    )
    assert await pipeline.call(when) - began == pytest.approx(1)
    assert await newcomers[0] - began == pytest.approx(2)


def test_one_whose_loop_was_closed_takes_nothing_and_holds_nobody_up() -> None:
    class Gone(Sleeper):
        def wake(self) -> bool:
            return False

    bucket = TokenBucket(1.0, 1.0, 1.0)
    line = Line(bucket, 0.0)
    assert bucket.take(1.0, 0.0)
    assert line.join(Gone(), 1.0, 0.0, 10.0, 10) is None
    line.advance(1.0)
    assert not line.waiting
    assert bucket.level(1.0) == 1.0


async def test_a_raised_rate_is_used_by_those_in_line_and_leaves_the_level() -> None:
    limit = RateLimit(1, per=10, burst=2, max_wait=100)
    pipeline = Pipeline("svc", limit)
    await pipeline.call(when)
    await pipeline.call(when)
    began = time()
    calls = [asyncio.ensure_future(pipeline.call(when)) for _ in range(2)]
    await asyncio.sleep(5)
    registry.reload({"SVC_RATE_LIMIT_PER": "1"})
    assert limit.snapshot().left == pytest.approx(0.5)
    assert [end - began for end in await asyncio.gather(*calls)] == pytest.approx([5.5, 6.5])


async def test_settings_of_the_service_set_a_limit_where_the_code_has_none() -> None:
    pipeline = Pipeline("svc", limit := RateLimit())
    for _ in range(100):
        await pipeline.call(when)
    registry.reload({"SVC_RATE_LIMIT_PERMITS": "2", "SVC_RATE_LIMIT_BURST": "1"})
    assert limit.settings() == {"permits": 2, "per": 1, "burst": 1, "max_wait": 0}
    await pipeline.call(when)
    with pytest.raises(RateLimited):
        await pipeline.call(when)


async def test_a_call_that_was_not_begun_gives_its_permit_back() -> None:
    limit = RateLimit(1, per=100)
    breaker = CircuitBreaker("down")
    pipeline = Pipeline("svc", limit, breaker)
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        await pipeline.call(when)
    assert limit.snapshot().left == 1


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
async def test_a_call_that_failed_or_was_cancelled_was_made(error: BaseException) -> None:
    async def fail() -> None:
        raise error

    limit = RateLimit(2, per=100)
    with pytest.raises(type(error)):
        await Pipeline("svc", limit).call(fail)
    assert limit.snapshot().left == 1


async def test_a_retry_does_not_wait_for_a_refusal() -> None:
    async def fail() -> None:
        raise ConnectionError

    pipeline = Pipeline("svc", Retry(max_attempts=3, jitter="none"), RateLimit(1, per=100))
    began = time()
    with pytest.raises(ConnectionError):
        await pipeline.call(fail)
    assert time() == began


async def test_streams_take_a_permit_each() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1

    pipeline = Pipeline("svc", RateLimit(1, per=100))
    assert [item async for item in pipeline.stream(numbers)] == [1]
    with pytest.raises(RateLimited):
        await anext(pipeline.stream(numbers))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0, 3.0]), st.sampled_from([1.0, 2.0, 4.0])), max_size=12)
)
@settings(max_examples=40, deadline=None)
async def test_everybody_goes_when_a_clerk_with_a_queue_would_let_them(
    script: list[tuple[float, float]],
) -> None:
    limit = RateLimit(1, burst=3, max_wait=1e6, weight=lambda weight: weight)
    pipeline = Pipeline("svc", limit)

    async def work(weight: float) -> float:
        return time()

    began = time()
    calls, arrivals, now = [], [], 0.0
    for pause, weight in script:
        await asyncio.sleep(pause)
        now += pause
        arrivals.append((now, weight))
        calls.append(asyncio.ensure_future(pipeline.call(work, weight)))
        await settle()
    ends = [await call - began for call in calls]
    assert ends == pytest.approx(list(clerk(arrivals, burst=3.0)), abs=1e-5)


def clerk(arrivals: list[tuple[float, float]], burst: float) -> Iterator[float]:
    """One permit a second; lets the queue in by one at a time, in quarters of seconds."""
    level, now = burst, 0.0
    for came, weight in arrivals:
        while now < came or level < min(weight, burst):
            now += 0.25
            level = min(burst, level + 0.25)
        level -= weight
        yield now


@pytest.mark.real_time
async def test_no_more_are_let_in_by_threads_and_loops_together() -> None:
    limit = RateLimit(1, per=1000, burst=50)
    pipeline = Pipeline("svc", limit)
    done: list[bool] = []
    refused = threading.Barrier(4)

    def many() -> None:
        refused.wait()
        for _ in range(200):
            try:
                pipeline.call_sync(done.append, True)
            except RateLimited:
                continue

    async def more() -> None:
        async def note() -> None:
            done.append(True)

        for _ in range(200):
            try:
                await pipeline.call(note)
            except RateLimited:
                continue

    def looped() -> None:
        refused.wait()
        asyncio.run(more())

    await asyncio.gather(*(asyncio.to_thread(work) for work in (many, many, looped, looped)))
    assert len(done) == 50


@pytest.mark.real_time
async def test_threads_and_loops_wait_in_one_line() -> None:
    limit = RateLimit(100, burst=1, max_wait=10)
    pipeline = Pipeline("svc", limit)
    done: list[str] = []
    began = wall.monotonic()
    threads = [asyncio.to_thread(pipeline.call_sync, done.append, "thread") for _ in range(4)]

    async def note() -> None:
        done.append("loop")

    await asyncio.gather(*threads, *(pipeline.call(note) for _ in range(4)))
    assert sorted(done) == ["loop"] * 4 + ["thread"] * 4
    assert wall.monotonic() - began >= 0.0699
    assert limit.snapshot().waiting == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"permits": 0}, "permits=0"),
        ({"permits": 1, "per": -1}, "per=-1"),
        ({"permits": 1, "burst": 0}, "burst=0"),
        ({"permits": 1, "max_wait": -1}, "max_wait=-1"),
        ({"permits": 1, "max_queue": 1.5}, "max_queue=1.5"),
        ({"permits": 1, "weight": 3}, "weight=3"),
        ({"permits": 1, "settle": 3}, "settle=3"),
    ],
)
def test_arguments_that_cannot_be_right_are_refused_by_name(options: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"RateLimit: {named} must be"):
        RateLimit(**options)  # type: ignore[arg-type]
