"""What contexts the attempts of a call run in."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from mcp_server_langgraph.resilience import Pipeline, current_hedge
from tests.support.attempts import hedge


async def test_the_primary_shares_the_callers_context_and_a_hedge_has_a_copy_from_the_beginning() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="")
    asked.set("caller")
    seen = []

    async def work() -> None:
        seen.append(asked.get())
        asked.set("primary" if current_hedge() == 0 else "hedge")
        await asyncio.sleep(2)

    await Pipeline("svc", hedge()).call(work)
    assert seen == ["caller", "caller"]
    assert asked.get() == "primary"
    assert current_hedge() == 0


async def test_a_hedge_has_the_context_of_its_own_call_whoever_set_the_timer() -> None:
    asked: ContextVar[str] = ContextVar("asked", default="")
    seen: list[tuple[str, int]] = []
    pipeline = Pipeline("svc", hedge())

    async def work() -> None:
        seen.append((asked.get(), current_hedge()))
        await asyncio.sleep(2)

    async def caller(name: str, comes: float) -> None:
        await asyncio.sleep(comes)
        asked.set(name)
        await pipeline.call(work)

    await asyncio.gather(caller("first", 0), caller("second", 0.5))
    assert seen == [("first", 0), ("second", 0), ("first", 1), ("second", 1)]


async def test_a_hedge_that_an_error_began_leaves_nothing_in_the_callers_context() -> None:
    async def work() -> int:
        if current_hedge() == 0:
            raise ConnectionError
        return current_hedge()

    assert await Pipeline("svc", hedge()).call(work) == 1
    assert current_hedge() == 0
