"""A pipeline kept what the policies of keys told it: it grew with them, and one full key stopped everybody's hedges."""

from __future__ import annotations

import asyncio

from mcp_server_langgraph.resilience import Budget, Bulkhead, Hedge, Keyed, Pipeline
from mcp_server_langgraph.resilience.testing import Scripted, Slow


def hedged() -> Pipeline:
    limits = Keyed(lambda _: Bulkhead(1), key=lambda key: key, max_keys=2)
    return Pipeline("svc", limits, Hedge(1, budget=Budget.unlimited()))


async def test_keys_that_are_forgotten_leave_nothing_in_the_pipeline() -> None:
    pipeline = hedged()
    service = Scripted()
    await pipeline.call(service, 0)
    known = len(pipeline.site.saturation)
    for key in range(1, 10):
        await pipeline.call(service, key)
    assert len(pipeline.site.saturation) == known


async def test_a_key_whose_places_are_taken_stops_no_hedges_of_others() -> None:
    pipeline = hedged()
    full = asyncio.create_task(pipeline.call(Scripted(lasts=100), "full"))
    await asyncio.sleep(0)
    service = Scripted(Slow(50, "late"), then="fine")
    assert await pipeline.call(service, "other") == "fine"
    await full


async def test_a_limit_around_the_keys_stops_the_hedges_of_each() -> None:
    hedges = Keyed(lambda _: Hedge(1, budget=Budget.unlimited()), key=lambda key: key)
    pipeline = Pipeline("svc", Bulkhead(1), hedges)
    for key in ("one", "two"):
        service = Scripted(Slow(50, "late"), then="fine")
        assert await pipeline.call(service, key) == "late"
        assert len(service.asked) == 1
