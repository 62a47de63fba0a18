"""Calls of every kind leave nothing behind: no task, no timer, no place, no object, no cycle.

`benchmarks.soak` runs a million of them; the program is `benchmarks._soak`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest

from benchmarks._soak import PIPELINES, Soak

CALLS = 500
# What so many calls may add for good: windows and rings are not full from the beginning.
MORE_OBJECTS = 50
MORE_BLOCKS = 250


@pytest.fixture(autouse=True)
def nothing_is_logged() -> Iterator[None]:
    logging.disable(logging.CRITICAL)  # pytest keeps what is logged
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


@pytest.mark.parametrize("name", PIPELINES)
async def test_nothing_is_left_of_calls_and_nothing_grows_with_them(name: str) -> None:
    soak = Soak(seed=7, names=(name,))
    await soak.run(2 * CALLS)
    before = soak.left_over()
    await soak.run(CALLS)
    after = soak.left_over()
    assert (after.tasks, after.timers, after.held) == (0, 0, 0)
    assert after.objects - before.objects < MORE_OBJECTS
    assert after.blocks - before.blocks < MORE_BLOCKS
    assert soak.ends["success"] > CALLS
    assert {"ConnectionError", "DeadlineExceeded", "KeyError"} <= soak.ends.keys()


@pytest.mark.parametrize("name", PIPELINES)
async def test_no_call_is_left_to_the_garbage_collector(name: str) -> None:
    """A key that is forgotten may be: its policy and its numbers know one another. So here all keys fit."""
    soak = Soak(seed=3, names=(name,), keys=10)
    await soak.run(200)
    gc.collect()
    gc.disable()
    await soak.run(200)
    assert soak.left_over().cycles == 0
