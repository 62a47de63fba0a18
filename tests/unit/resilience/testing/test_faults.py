"""Scripted dependencies do what their script says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Outcome, Pipeline, Retry, Timeout, classify
from mcp_server_langgraph.resilience.testing import HANG, Asked, Scripted, Slow, StatusError, drip, flaky


async def test_a_scripted_dependency_does_a_step_a_call_and_then_the_rest() -> None:
    service = Scripted(ConnectionError("down"), "first", Slow(2, "late"), Slow(1, KeyError()), lasts=0.5)
    with pytest.raises(ConnectionError, match="down"):
        await service(1, key="a")
    assert [await service(), await service()] == ["first", "late"]
    with pytest.raises(KeyError):
        await service()
    assert await service() == "fine"
    assert service.asked[:2] == [Asked(0.0, (1,), {"key": "a"}), Asked(0.5, (), {})]
    assert asyncio.get_running_loop().time() == 5.5


async def test_it_counts_those_under_way() -> None:
    service = Scripted(lasts=1)
    await asyncio.gather(*(service() for _ in range(3)))
    assert (service.running, service.most) == (0, 3)


async def test_a_hanging_step_ends_with_a_cut() -> None:
    service = Scripted(HANG, Slow(1, HANG))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await Pipeline("s", Timeout(5)).call(service)
    assert service.running == 0
    assert repr(HANG) == "HANG"


async def test_a_flaky_function_is_the_function_behind_a_script() -> None:
    async def double(number: int) -> int:
        return 2 * number

    service = flaky(double, ConnectionError(), None, 99)
    assert service.__name__ == "double"
    assert await Pipeline("s", Retry(max_attempts=2, multiplier=0)).call(service, 4) == 8
    assert [await service(1), await service(1)] == [99, 2]


async def test_streams_drip_and_break() -> None:
    loop = asyncio.get_running_loop()
    times = [(item, loop.time()) async for item in drip("ab", every=2)]
    assert times == [("a", 2.0), ("b", 4.0)]
    got: list[Any] = []

    async def read() -> None:
        async for item in drip([1, 2], then=ConnectionError()):
            got.append(item)  # noqa: PERF401 (what came before the error counts)

    with pytest.raises(ConnectionError):
        await read()
    assert got == [1, 2]


def test_a_status_error_is_judged_as_a_clients_would_be() -> None:
    verdict = classify(StatusError(503, retry_after="3"))
    assert (verdict.outcome, verdict.retry_after) == (Outcome.FAILURE, 3.0)
    assert classify(StatusError(404)).outcome is Outcome.NEUTRAL


@pytest.mark.parametrize(
    "wrapped", [lambda error: error, lambda error: Slow(1, error)], ids=["at once", "late"]
)
@pytest.mark.parametrize("kind", ["scripted", "flaky", "drip"])
async def test_an_error_that_was_raised_leaves_nothing_for_the_garbage_collector(
    kind: str, wrapped: Callable[[Exception], Any]
) -> None:
    class Down(ConnectionError):
        """Can be referred to weakly."""

    async def fine() -> str:
        return "fine"

    error = Down()
    gone = weakref.ref(error)
    gc.disable()
    try:
        with contextlib.suppress(Down):
            if kind == "scripted":
                await Scripted(wrapped(error))()
            elif kind == "flaky":
                await flaky(fine, wrapped(error))()
            else:
                _ = [item async for item in drip([1], then=error)]
        del error
        assert gone() is None
    finally:
        gc.enable()
