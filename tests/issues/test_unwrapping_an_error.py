"""`Ended.unwrap` kept the error in the frame that raised it, through ``self``: a cycle each time."""

from __future__ import annotations

import contextlib
import gc

from mcp_server_langgraph.resilience import Bulkhead, Pipeline


async def down() -> None:
    raise ConnectionError


async def test_it_leaves_no_cycle() -> None:
    pipeline = Pipeline("svc", Bulkhead(1))

    async def ask() -> None:
        with contextlib.suppress(ConnectionError):
            (await pipeline.try_call(down)).unwrap()

    await ask()
    gc.collect()
    gc.disable()
    try:
        await ask()
        assert gc.collect() == 0
    finally:
        gc.enable()
