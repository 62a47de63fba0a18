"""What the tests of the adaptive limit have in common."""

from __future__ import annotations

import asyncio

from mcp_server_langgraph.resilience import AdaptiveLimit, Criticality, Pipeline, criticality, registry
from mcp_server_langgraph.resilience.adaptive import AdaptiveSnapshot, Observed
from mcp_server_langgraph.resilience.testing import settle


class Fixed:
    """An algorithm that only listens; the limit is what the test says."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.told: list[Observed] = []

    def update(self, observed: Observed) -> None:
        self.told.append(observed)

    def bound(self, least: int, most: int) -> None:
        """Nothing bounds it."""


class Work:
    """Calls that last until they are let go, and a note of who is inside."""

    def __init__(self, policy: AdaptiveLimit) -> None:
        self.pipeline = Pipeline("svc", policy)
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.inside: list[str] = []

    async def last(self, name: str) -> str:
        self.inside.append(name)
        try:
            await self.gates[name]
        finally:
            self.inside.remove(name)
        return name

    async def begin(self, *names: str, level: Criticality = Criticality.CRITICAL) -> list[asyncio.Task[str]]:
        """One call each, up to the point where it works or waits."""
        tasks = []
        for name in names:
            self.gates[name] = asyncio.get_running_loop().create_future()
            with criticality(level):
                tasks.append(asyncio.ensure_future(self.pipeline.call(self.last, name)))
            await settle()
        return tasks

    async def end(self, *names: str) -> None:
        for name in names:
            self.gates[name].set_result(None)
            await settle()


def numbers(policy: AdaptiveLimit) -> AdaptiveSnapshot:
    """The snapshot, which says the same as the metrics."""
    snapshot = policy.snapshot()
    told = {metric.name: metric.samples for metric in registry.metrics()}
    name = (policy.name,)
    assert told["adaptive_limit"][name] == snapshot.limit  # type: ignore[index]
    assert told["adaptive_in_flight"][name] == snapshot.active  # type: ignore[index]
    assert told["adaptive_queue_depth"][name] == snapshot.queued  # type: ignore[index]
    rejected = {labels[1:]: count for labels, count in told["adaptive_rejections_total"].items()}
    assert rejected == snapshot.rejected
    return snapshot
