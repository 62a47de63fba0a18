"""Pipelines around async generators: what passes through, and what is refused."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Call,
    Policy,
    Retry,
    StreamInterrupted,
    Timeout,
    registry,
    remaining,
)
from tests.support.streams import collect, paced
from tests.unit.resilience.streaming_helpers import LAYERS, everything


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
