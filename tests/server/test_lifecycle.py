"""Calls in flight, and how a drain waits for them and ends."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.server.lifecycle import Lifecycle, ServerStopping
from tests.support.clock import now


async def work(lifecycle: Lifecycle, seconds: float, *, new_work: bool = True) -> str:
    with lifecycle.call(new_work=new_work):
        await asyncio.sleep(seconds)
        return "done"
    raise AssertionError


async def test_a_drain_with_nothing_in_flight_ends_at_once() -> None:
    began = now()
    assert await Lifecycle().drain(20)
    assert now() == began


async def test_a_drain_waits_for_the_calls_in_flight() -> None:
    lifecycle = Lifecycle()
    calls = [asyncio.create_task(work(lifecycle, seconds)) for seconds in (1, 4)]
    await asyncio.sleep(0)
    assert lifecycle.in_flight == 2
    assert await lifecycle.drain(20)
    assert now() == pytest.approx(4, abs=1)
    assert await asyncio.gather(*calls) == ["done", "done"]
    assert lifecycle.in_flight == 0


async def test_new_work_is_refused_while_draining_and_small_questions_are_not() -> None:
    lifecycle = Lifecycle()
    call = asyncio.create_task(work(lifecycle, 4))
    await asyncio.sleep(0)
    drain = asyncio.create_task(lifecycle.drain(20))
    await asyncio.sleep(0)
    with pytest.raises(ServerStopping):
        await work(lifecycle, 1)
    assert await work(lifecycle, 1, new_work=False) == "done"
    assert await drain
    assert await call == "done"


async def test_a_question_right_after_the_last_answer_is_still_waited_for() -> None:
    lifecycle = Lifecycle()

    async def client() -> None:
        await work(lifecycle, 1)
        await asyncio.sleep(0.1)
        await work(lifecycle, 3, new_work=False)

    asking = asyncio.create_task(client())
    await asyncio.sleep(0)
    assert await lifecycle.drain(20)
    assert asking.done()


async def test_calls_that_outlast_the_drain_are_cut_and_told_so() -> None:
    lifecycle = Lifecycle()
    call = asyncio.create_task(work(lifecycle, 100))
    await asyncio.sleep(0)
    assert await lifecycle.drain(5) is False
    assert now() == pytest.approx(5)
    with pytest.raises(ServerStopping, match="before the call was done"):
        await call


async def test_a_callers_own_cancellation_stays_one() -> None:
    lifecycle = Lifecycle()
    call = asyncio.create_task(work(lifecycle, 100))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert lifecycle.in_flight == 0


async def test_streams_are_ended_at_once_and_not_begun_any_more() -> None:
    lifecycle = Lifecycle()

    async def listen() -> bool:
        with lifecycle.stream() as stream:
            await asyncio.Event().wait()
        return stream.cancelled_caught

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    assert await lifecycle.drain(20)
    assert await listening is True
    assert now() < 1
    with pytest.raises(ServerStopping), lifecycle.stream():
        pass
