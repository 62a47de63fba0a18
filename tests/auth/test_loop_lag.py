"""How late our own event loop was."""

import asyncio
import time

import pytest

from mcp_server_langgraph.auth._loop_lag import LoopLag


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_loop_that_only_waits_is_never_late() -> None:
    with LoopLag() as lag:
        await asyncio.sleep(10)
        assert lag.seconds == pytest.approx(0.0, abs=1e-6)
    await asyncio.sleep(10)
    assert lag.seconds == pytest.approx(0.0, abs=1e-6)


@pytest.mark.real_time
async def test_what_blocks_the_loop_counts_while_it_blocks_and_after() -> None:
    with LoopLag() as lag:
        await asyncio.sleep(0)
        for _ in range(2):
            block(0.2)
            assert lag.seconds >= 0.1
            await asyncio.sleep(0.01)
    assert lag.seconds >= 0.25
    after = lag.seconds
    block(0.1)
    assert lag.seconds == after
