"""Finding out in the background that a service is back: its task ends when it is told to."""

import asyncio
from contextvars import ContextVar
from itertools import pairwise

import pytest

from mcp_server_langgraph.auth._recovery import CircuitCloser, Recovery
from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline, timeout
from mcp_server_langgraph.resilience.deadline import remaining


async def never_works() -> None:
    raise OSError("still down")


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("between", range(4))
async def test_stopping_ends_it_even_in_the_moment_in_which_it_was_hurried(before: int, between: int) -> None:
    recovery = Recovery("test", never_works)
    recovery.start()
    for _ in range(before):
        await asyncio.sleep(0)
    recovery.hurry()
    for _ in range(between):
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await recovery.stop()
    assert not recovery.running


async def test_it_tries_until_it_works_and_can_be_started_again() -> None:
    attempts = []

    async def third_time_lucky() -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) % 3:
            raise OSError("still down")

    recovery = Recovery("test", third_time_lucky, chance=lambda: 1.0)
    assert recovery.start()
    assert not recovery.start()
    await asyncio.sleep(10)
    assert not recovery.running
    first, second, third = attempts
    assert (second - first, third - second) == (pytest.approx(0.2), pytest.approx(0.4))
    assert recovery.start()
    await asyncio.sleep(10)
    assert len(attempts) == 6


async def test_waits_double_up_to_five_seconds() -> None:
    attempts = []

    async def tries() -> None:
        attempts.append(asyncio.get_running_loop().time())
        raise OSError("still down")

    recovery = Recovery("test", tries, chance=lambda: 1.0)
    recovery.start()
    await asyncio.sleep(60)
    await recovery.stop()
    waits = [later - before for before, later in pairwise([0.0, *attempts])]
    assert waits[:9] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    assert max(waits) == pytest.approx(5.0)


async def test_it_hurries_once_when_it_is_told_to_and_not_for_what_was_said_before_it_ran() -> None:
    attempts = []

    async def tries() -> None:
        attempts.append(asyncio.get_running_loop().time())
        raise OSError("still down")

    recovery = Recovery("test", tries, chance=lambda: 1.0)
    recovery.hurry()
    recovery.start()
    await asyncio.sleep(0.05)
    assert attempts == []
    recovery.hurry()
    await asyncio.sleep(0.01)
    assert attempts == [pytest.approx(0.05)]
    await asyncio.sleep(0.18)
    assert len(attempts) == 1
    await recovery.stop()


_request: ContextVar[str] = ContextVar("request", default="nobody's")


async def test_neither_the_deadline_nor_the_context_of_who_started_it_reaches_it() -> None:
    seen = []

    async def tries() -> None:
        seen.append((_request.get(), remaining()))

    recovery = Recovery("test", tries)
    async with timeout(60):
        _request.set("ann's")
        recovery.start()
        await asyncio.sleep(10)
    assert seen == [("nobody's", None)]


async def down() -> None:
    raise ConnectionError("down")


async def test_a_circuit_is_closed_early_once_in_its_interval_at_most() -> None:
    breaker = CircuitBreaker("service", fail_max=1, timeout=1000.0)
    pipeline = Pipeline("service", breaker)
    closer = CircuitCloser(pipeline, interval=30.0)

    async def opens() -> None:
        with pytest.raises(ConnectionError):
            await pipeline.call(down)
        assert closer.is_open

    await opens()
    closer.close()
    assert not closer.is_open
    await opens()
    await asyncio.sleep(29)
    closer.close()
    assert closer.is_open
    await asyncio.sleep(1)
    closer.close()
    assert not closer.is_open


async def test_what_an_operator_forced_open_is_not_closed_by_a_probe() -> None:
    breaker = CircuitBreaker("service", fail_max=1, timeout=1000.0)
    closer = CircuitCloser(Pipeline("service", breaker))
    breaker.force_open()
    closer.close()
    assert breaker.state == "forced_open"
