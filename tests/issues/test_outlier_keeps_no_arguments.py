"""Where a hedge saved a call, an outlier's note of what failed stayed in the caller's context, arguments and all."""

from __future__ import annotations

import asyncio
import gc
import weakref

from mcp_server_langgraph.resilience import Budget, Hedge, Outlier, Pipeline, Retry, current_endpoint


class Argument:
    pass


async def ask(*, about: Argument) -> str:
    if current_endpoint() == "sick":
        await asyncio.sleep(2)
        raise ConnectionError
    await asyncio.sleep(5)
    return "fine"


async def test_nothing_of_a_call_that_a_hedge_saved_is_kept() -> None:
    hedge = Hedge(1, budget=Budget.unlimited())
    outlier = Outlier(["sick", "well"], chance=lambda: 0.0)
    pipeline = Pipeline("search", Retry(2, budget=Budget.unlimited()), hedge, outlier)
    argument = Argument()
    kept = weakref.ref(argument)
    assert await pipeline.call(ask, about=argument) == "fine"
    del argument
    gc.collect()
    assert kept() is None
