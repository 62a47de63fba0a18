"""Finding out in the background that a service is back: its task ends when it is told to."""

import asyncio

import pytest

from mcp_server_langgraph.auth._recovery import Recovery


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
