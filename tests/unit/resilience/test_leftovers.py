"""A failed call is gone at once: no cycle of exception, traceback and frames waits for the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Outlier,
    Pipeline,
    Policy,
    Retry,
    StreamInterrupted,
    Timeout,
)


class Request:
    """An argument of a call; gone when nobody holds the call's frames any more."""


def open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker("svc", fail_max=1)
    breaker.force_open()
    return breaker


def opened_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker("svc", fail_max=1)
    breaker.machine.open(0.0, "failures")
    return breaker


def full_bulkhead(max_wait: float) -> Bulkhead:
    bulkhead = Bulkhead(1, max_wait=max_wait)
    bulkhead.places.free.pop()
    return bulkhead


FAILING: dict[str, Callable[[], list[Policy]]] = {
    "retried": lambda: [Retry(jitter="none")],
    "exhausted": lambda: [Retry(jitter="none", reraise=False)],
    "the breaker opens between attempts": lambda: [Retry(jitter="none"), CircuitBreaker("svc", fail_max=2)],
    "refused by the breaker": lambda: [open_breaker()],
    "refused before all else": lambda: [Bulkhead(2), opened_breaker()],
    "refused by the bulkhead": lambda: [full_bulkhead(0)],
    "refused after a wait": lambda: [full_bulkhead(1)],
    "hedged": lambda: [Hedge(1)],
    "judged": lambda: [Retry(jitter="none", retry=lambda state: True)],
}
TIMED: dict[str, Callable[[], list[Policy]]] = {
    "attempts cut": lambda: [Retry(jitter="none"), Timeout(1)],
    "cut": lambda: [Timeout(1)],
    "hedged and cut": lambda: [Timeout(2), Hedge(1)],
    "the standard order": lambda: [
        Timeout(9),
        Bulkhead(2),
        Retry(jitter="none"),
        CircuitBreaker("svc"),
        Timeout(1),
    ],
}


@pytest.fixture
def no_collector(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL, "mcp_server_langgraph")
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("as_task", [False, True])
@pytest.mark.parametrize("case", FAILING | TIMED)
async def test_a_failed_call_leaves_nothing_for_the_garbage_collector(case: str, as_task: bool) -> None:
    pipeline = Pipeline("svc", *(FAILING | TIMED)[case]())

    async def fail(request: Request) -> None:
        if case in TIMED:
            await asyncio.sleep(60)
        raise ConnectionError

    request = Request()
    gone = weakref.ref(request)
    call = pipeline.call(fail, request)
    del request
    if as_task:
        call = asyncio.ensure_future(call)
    try:
        await call
    except Exception as exc:
        assert not isinstance(exc, AssertionError)  # noqa: PT017
    del call
    await asyncio.sleep(0)
    assert gone() is None


@pytest.mark.usefixtures("no_collector")
async def test_a_stream_that_was_tried_again_keeps_none_of_its_errors() -> None:
    class Down(ConnectionError):
        """Can be referred to weakly."""

    gone: list[weakref.ref[Down]] = []

    async def items() -> AsyncGenerator[int, None]:
        if len(gone) < 2:
            error = Down()
            gone.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        yield 1

    stream = Pipeline("svc", Retry(jitter="none")).stream(items)
    assert [item async for item in stream] == [1]
    del stream
    assert [each() for each in gone] == [None, None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("outer", [[], [Retry(2, jitter="none")]], ids=["alone", "retried"])
async def test_an_outlier_keeps_no_arguments_of_a_call_that_failed(outer: list[Policy]) -> None:
    pipeline = Pipeline("svc", *outer, Outlier(["a", "b"]))

    async def fail(*, request: Request) -> None:
        raise ConnectionError

    request = Request()
    gone = weakref.ref(request)
    with contextlib.suppress(ConnectionError):
        await pipeline.call(fail, request=request)
    del request
    assert gone() is None


@pytest.mark.usefixtures("no_collector")
async def test_an_outlier_keeps_no_arguments_of_a_stream_that_broke() -> None:
    pipeline = Pipeline("svc", Retry(2, jitter="none"), Outlier(["a", "b"]))

    async def breaks(*, request: Request) -> AsyncGenerator[int, None]:
        yield 1
        raise ConnectionError

    request = Request()
    gone = weakref.ref(request)
    stream = pipeline.stream(breaks, request=request)
    with contextlib.suppress(StreamInterrupted):
        assert [item async for item in stream] == [1]
    del request, stream
    gc.collect()  # generators are closed in circles of their own
    assert gone() is None
