"""Pipelines around async generators: what passes through, the four clocks, and what is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Call,
    CircuitBreaker,
    DeadlineExceeded,
    Pipeline,
    Policy,
    Retry,
    StreamInterrupted,
    TimedOut,
    Timeout,
    registry,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.streaming import KEPT_ITEMS
from mcp_server_langgraph.resilience.testing import settle


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def now() -> float:
    return asyncio.get_running_loop().time()


async def paced(*seconds: float) -> AsyncGenerator[int, None]:
    """Items 0, 1, 2... each after that many seconds."""
    for item, wait in enumerate(seconds):
        if wait:
            await asyncio.sleep(wait)
        yield item


async def collect(stream: AsyncIterator[Any], into: list[Any] | None = None) -> list[Any]:
    items = [] if into is None else into
    async for item in stream:
        items.append(item)
    return items


def everything(*policies: Policy) -> Pipeline:
    return Pipeline("s", *policies)


LAYERS = pytest.mark.parametrize(
    "pipeline",
    [
        lambda: everything(),
        lambda: everything(Timeout(100), Bulkhead(1), Retry(2), CircuitBreaker(), Timeout(50)),
        lambda: everything(Bulkhead(1), Through(), Retry(2), Through(), Timeout(50)),
    ],
    ids=["no policy", "standard", "general policies between"],
)


class Through(Policy):
    """A policy in the general form that changes nothing."""

    async def run(self, call: Call, proceed: Any) -> Any:
        return await proceed(call)

    async def stream(self, call: Call, proceed: Any) -> AsyncGenerator[Any, Any]:
        source = proceed(call)
        try:
            item = await anext(source)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as exc:
                    item = await source.athrow(exc)
                else:
                    item = await source.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await source.aclose()


# What passes through


@LAYERS
async def test_items_pass_in_order_by_both_ways_in(pipeline: Any) -> None:
    assert await collect(pipeline().stream(paced, 1, 1, 1)) == [0, 1, 2]
    assert await collect(pipeline()(paced)(0, 0)) == [0, 1]
    assert await collect(pipeline().stream(paced)) == []


@LAYERS
async def test_what_is_sent_and_thrown_reaches_the_generator(pipeline: Any) -> None:
    async def talker() -> AsyncGenerator[str, str]:
        heard = yield "ready"
        while heard != "stop":
            try:
                heard = yield f"heard {heard}"
            except KeyError as exc:
                heard = yield f"caught {exc.args[0]}"

    stream = pipeline().stream(talker)
    assert await anext(stream) == "ready"
    assert await stream.asend("hello") == "heard hello"
    assert await stream.athrow(KeyError("oops")) == "caught oops"
    assert await stream.asend("bye") == "heard bye"
    with pytest.raises(StopAsyncIteration):
        await stream.asend("stop")


@LAYERS
async def test_what_is_thrown_and_not_caught_comes_back_and_ends_the_stream(pipeline: Any) -> None:
    guarded = pipeline()
    stream = guarded.stream(paced, 0, 0, 0)
    await anext(stream)
    with pytest.raises(KeyError):
        await stream.athrow(KeyError())
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert await collect(guarded.stream(paced, 0)) == [0], "its place was given back"


@LAYERS
async def test_arguments_pass_too(pipeline: Any) -> None:
    async def echo(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield args
        yield kwargs

    assert await collect(pipeline().stream(echo, 1, fn=2, call=3)) == [(1,), {"fn": 2, "call": 3}]


async def test_any_async_iterator_will_do() -> None:
    class Countdown:
        def __init__(self, count: int) -> None:
            self.count = count
            self.closed = False

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> int:
            if not self.count:
                raise StopAsyncIteration
            self.count -= 1
            return self.count

        async def aclose(self) -> None:
            self.closed = True

    class Iterable:
        def __aiter__(self) -> AsyncIterator[int]:
            return Countdown(2)

    source = Countdown(3)
    pipeline = everything(Timeout(10))
    assert await collect(pipeline.stream(lambda: source)) == [2, 1, 0]
    assert source.closed
    assert await collect(pipeline.stream(Iterable)) == [1, 0]
    half = pipeline.stream(lambda: Countdown(2))
    await anext(half)
    with pytest.raises(KeyError):
        await half.athrow(KeyError)


@LAYERS
@pytest.mark.parametrize("switched_on", [True, False])
async def test_what_cannot_be_iterated_over_is_a_clear_error(pipeline: Any, switched_on: bool) -> None:
    async def single() -> int:
        return 1

    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": str(switched_on)})
    with pytest.raises(
        TypeError, match=r"cannot stream .*single: an async generator is needed, .* coroutine"
    ):
        await collect(pipeline().stream(single))
    with pytest.raises(TypeError, match="an async generator is needed, and it gave list"):
        await collect(pipeline().stream(lambda: [1, 2]))
    gc.collect()


async def test_a_policy_that_knows_no_streams_is_refused() -> None:
    class OnlyCalls(Policy):
        kind = "only_calls"

        async def run(self, call: Call, proceed: Any) -> Any:
            return await proceed(call)

    with pytest.raises(
        TypeError, match=r"only_calls cannot guard an async generator: .*OnlyCalls has no stream"
    ):
        everything(OnlyCalls()).stream(paced)
    with pytest.raises(TypeError, match="only_calls cannot guard an async generator"):
        everything(OnlyCalls())(paced)


async def test_switched_off_the_bare_generator_runs() -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield remaining() is None
        await asyncio.sleep(100)
        raise ConnectionError("bare")

    pipeline = everything(Timeout(5), Bulkhead(1), Retry(3))
    guarded = pipeline(breaks)
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    for stream in (guarded(), pipeline.stream(breaks)):
        assert await anext(stream) is True
        with pytest.raises(ConnectionError, match="bare"):
            await anext(stream)
    registry.reload({})
    with pytest.raises(StreamInterrupted):
        await collect(guarded())


# The four clocks


@pytest.mark.parametrize(
    ("policies", "waits", "clock", "items", "end"),
    [
        ([Timeout(10, first_item=2)], [3, 0], "first item", [], 2),
        ([Timeout(10, first_item=2)], [1, 5, 5], "total", [0, 1], 10),
        ([Timeout(10, idle=2)], [1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5], "total", [0, 1, 2, 3, 4, 5], 10),
        ([Timeout(10, idle=2)], [1, 1.5, 1.5, 3], "idle", [0, 1, 2], 6),
        ([Timeout(10)], [4, 4, 4], "total", [0, 1], 10),
        ([Timeout(10)], [11], "total", [], 10),
        ([Retry(1), Timeout(10)], [4, 4, 4], "attempt", [0, 1], 10),
        ([Retry(1), Timeout(10, first_item=1)], [2], "first item", [], 1),
        ([Retry(1), Timeout(10, idle=2)], [4, 3], "idle", [0], 6),
        ([Timeout(8), Retry(1), Timeout(10, idle=2)], [1, 3], "idle", [0], 3),
        ([Timeout(8), Retry(1), Timeout(10, idle=9)], [1, 30], "total", [0], 8),
    ],
)
async def test_each_clock_cuts(
    policies: list[Policy], waits: list[float], clock: str, items: list[int], end: float
) -> None:
    got: list[int] = []
    with pytest.raises((TimedOut, StreamInterrupted)) as caught:
        await collect(everything(*policies).stream(paced, *waits), got)
    error: BaseException = caught.value
    if items:
        assert isinstance(error, StreamInterrupted)
        assert (error.received, error.count) == (tuple(items), len(items))
        error = error.__cause__ or error
    assert isinstance(error, TimedOut)
    assert (error.clock, error.pipeline, got, now()) == (clock, "s", items, end)
    length = next(
        getattr(policy, clock.replace(" ", "_") if clock in ("idle", "first item") else "seconds")
        for policy in (policies if clock == "total" else reversed(policies))
    )
    assert error.seconds == length


async def test_the_clocks_stand_still_while_the_consumer_works_except_those_of_the_whole() -> None:
    stream = everything(Timeout(10, idle=1)).stream(paced, 0.5, 0.5, 0.5)
    async for item in stream:
        if item < 2:
            await asyncio.sleep(3)
    assert now() == 7.5


async def test_a_whole_time_that_ran_out_at_the_consumers_cuts_the_next_step() -> None:
    stream = everything(Timeout(5)).stream(paced, 1, 1)
    await anext(stream)
    await asyncio.sleep(9)
    with pytest.raises(StreamInterrupted) as caught:
        await anext(stream)
    assert isinstance(caught.value.__cause__, TimedOut)
    assert now() == 10


async def test_so_it_does_where_the_next_item_is_there_already() -> None:
    got: list[int] = []
    stream = everything(Timeout(5)).stream(paced, 0, 0, 0, 0)

    async def slowly() -> None:
        async for item in stream:
            got.append(item)
            await asyncio.sleep(2)

    with pytest.raises(StreamInterrupted) as caught:
        await slowly()
    assert (got, now(), caught.value.__cause__.__class__) == ([0, 1, 2], 6, TimedOut)


async def test_the_total_covers_the_wait_for_a_place_and_between_attempts() -> None:
    async def refused() -> AsyncGenerator[int, None]:
        if now() >= 0:
            raise ConnectionError
        yield 1

    bulkhead = Bulkhead(1, max_wait=60)
    first = everything(bulkhead).stream(paced, 0, 1)
    await anext(first)
    with pytest.raises(TimedOut) as caught:
        await anext(everything(Timeout(5), bulkhead).stream(paced, 0))
    assert (caught.value.clock, now(), bulkhead.snapshot().queued) == ("total", 5, 0)
    await first.aclose()
    with pytest.raises(ConnectionError):
        await anext(everything(Timeout(5), Retry(5, jitter="none")).stream(refused))
    assert now() == 5 + 1 + 2, "a fourth attempt would have begun at 7 s of 5"


async def test_the_time_of_a_place_in_line_before_the_total_does_not_count() -> None:
    bulkhead = Bulkhead(1, max_wait=60)
    first = everything(bulkhead).stream(paced, 0, 1)
    await anext(first)
    asyncio.get_running_loop().call_at(20, lambda: asyncio.ensure_future(first.aclose()))
    assert await collect(everything(bulkhead, Timeout(5)).stream(paced, 4)) == [0]
    assert now() == 24


async def test_settings_changed_meanwhile_do_not_touch_a_stream_that_has_begun() -> None:
    registry.reload({"REDIS_TIMEOUT": "5"})
    pipeline = Pipeline("redis", Timeout())
    stream = pipeline.stream(paced, 1, 10)
    await anext(stream)
    registry.reload({"REDIS_TIMEOUT": "100"})
    with pytest.raises(StreamInterrupted):
        await anext(stream)
    assert now() == 5


# Deadlines and the context


async def test_the_generator_sees_the_deadline_and_the_consumer_never_does() -> None:
    seen: list[float | None] = []

    async def looks() -> AsyncGenerator[int, None]:
        for item in range(3):
            seen.append(remaining())
            yield item
            await asyncio.sleep(1)

    before = list(contextvars.copy_context().items())
    async for _ in everything(Timeout(10), Retry(2), Timeout(8, idle=3)).stream(looks):
        assert remaining() is None
        assert [item for item in contextvars.copy_context().items() if item[1] is not None] == before
    assert seen == [8, 3 - 1, 3 - 1]
    assert remaining() is None


async def test_it_may_be_consumed_from_one_task_after_the_other() -> None:
    stream = everything(Timeout(10, idle=2), Bulkhead(1)).stream(paced, 1, 1, 1)
    items = [await asyncio.create_task(_next(stream)) for _ in range(3)]
    assert items == [0, 1, 2]
    await stream.aclose()


async def _next(stream: AsyncGenerator[Any, None]) -> Any:
    return await anext(stream)


@pytest.mark.parametrize("policies", [[Timeout(20)], [Retry(1), Timeout(20)]], ids=["total", "attempt"])
async def test_a_shorter_deadline_of_the_caller_is_told_apart(policies: list[Policy]) -> None:
    with pytest.raises(TimedOut) as caught:
        async with timeout(5, name="caller"):
            await collect(everything(*policies).stream(paced, 1, 9))
    assert (caught.value.pipeline, caught.value.clock) == ("caller", "total")
    async with timeout(5):
        child = asyncio.create_task(collect(everything(*policies).stream(paced, 1, 9)))
        await settle()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(9)
        with pytest.raises(TimedOut) as caught:
            await child
    assert (caught.value.pipeline, caught.value.clock) == ("s", "inherited")


async def test_where_nothing_is_left_the_stream_is_not_begun() -> None:
    async def late() -> None:
        await asyncio.sleep(4)
        await collect(everything(Bulkhead(1), Timeout(5)).stream(paced, 0))

    async with timeout(5) as block:
        child = asyncio.create_task(late())
        await asyncio.sleep(1)
        block.reschedule(3)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(9)
        with pytest.raises(DeadlineExceeded):
            await child


# The end


async def test_an_interruption_keeps_the_last_items_and_counts_all() -> None:
    async def long() -> AsyncGenerator[int, None]:
        for item in range(KEPT_ITEMS + 5):
            yield item
        raise ConnectionResetError

    with pytest.raises(StreamInterrupted) as caught:
        await collect(everything().stream(long))
    assert caught.value.count == KEPT_ITEMS + 5
    assert caught.value.received == tuple(range(5, KEPT_ITEMS + 5))
    assert isinstance(caught.value.__cause__, ConnectionResetError)


@pytest.mark.parametrize("error", [TypeError("bug"), PermissionError("no")])
async def test_what_is_no_failure_of_the_dependency_passes_as_it_is(error: Exception) -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    with pytest.raises(type(error)) as caught:
        await collect(everything(CircuitBreaker()).stream(breaks))
    assert caught.value is error


@LAYERS
async def test_cancellation_in_the_middle_stays_cancellation_and_closes_the_generator(pipeline: Any) -> None:
    closed: list[float] = []

    async def watched() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(50)
        finally:
            closed.append(now())

    guarded = pipeline()
    task = asyncio.create_task(collect(guarded.stream(watched)))
    asyncio.get_running_loop().call_later(3, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert closed == [3]
    assert await collect(guarded.stream(paced, 0)) == [0], "its place was given back"


async def test_a_generator_that_breaks_while_it_is_closed_gives_its_place_back_too() -> None:
    async def awkward() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise KeyError("while closing")

    bulkhead = Bulkhead(1)
    pipeline = everything(bulkhead, Retry(3), CircuitBreaker("b"))
    stream = pipeline.stream(awkward)
    await anext(stream)
    with pytest.raises(KeyError, match="while closing"):
        await stream.aclose()
    assert bulkhead.snapshot().active == 0


class Connection:
    """An async iterator that takes a second to close; `error` comes from where `breaks` says."""

    def __init__(self, breaks: str, error: Exception) -> None:
        self.breaks = breaks
        self.error = error
        self.closed = 0

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> int:
        if self.breaks == "reading":
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1
        await asyncio.sleep(1)
        if self.breaks == "closing":
            raise self.error


async def test_a_stream_that_ends_and_breaks_while_it_is_closed_has_failed() -> None:
    pipeline = everything(Bulkhead(1), CircuitBreaker("b"))
    with pytest.raises(ConnectionError):
        await collect(pipeline.stream(Connection, "closing", ConnectionError()))
    assert pipeline.snapshot()["bulkhead"].active == 0
    assert pipeline.snapshot()["circuit_breaker"].failures == {"ConnectionError": 1}


async def test_cancellation_while_a_failed_attempt_is_closed_is_not_retried() -> None:
    connection = Connection("reading", ConnectionError())
    retry = Retry(9, retry=lambda state: True)
    task = asyncio.create_task(collect(everything(retry).stream(lambda: connection)))
    asyncio.get_running_loop().call_later(0.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (connection.closed, now()) == (1, 0.5)


async def test_how_streams_ended_is_counted_at_their_end() -> None:
    async def breaks() -> AsyncGenerator[int, None]:
        yield 1
        raise ConnectionError

    pipeline = everything(CircuitBreaker("b"))

    def numbers() -> dict[str, Any]:
        found = {metric.name: metric.samples for metric in registry.metrics()}
        calls = found["resilience_calls_total"]
        return {labels[2]: count for labels, count in calls.items() if count}

    stream = pipeline.stream(paced, 1, 2)
    await anext(stream)
    assert numbers() == {}
    await collect(stream)
    assert numbers() == {"success": 1}
    with pytest.raises(StreamInterrupted):
        await collect(pipeline.stream(breaks))
    async with aclosing(pipeline.stream(paced, 1, 1)) as early:
        await anext(early)
    assert numbers() == {"success": 1, "failure": 1, "neutral": 1}
    durations = {metric.name: metric.samples for metric in registry.metrics()}[
        "resilience_call_duration_seconds"
    ]
    duration = durations["s", "s"]
    assert isinstance(duration, HistogramValue)
    assert duration.sum == 3
