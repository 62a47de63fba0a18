"""Replicas of one service in one loop: each with a breaker and a shared state of its own, over a place in memory."""

import asyncio
import random
from collections.abc import Collection, Mapping

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline
from mcp_server_langgraph.resilience.integrations.shared import Link, SharedState

__all__ = ["Place", "PlaceLink", "Replica"]


class Place:
    """Where reports are kept. `hangs` and `refuses` hold for all who come, `cut_off` for some by name."""

    def __init__(self) -> None:
        self.reports: dict[str, bytes] = {}
        self.hangs = False
        self.refuses = False
        self.cut_off: set[str] = set()
        self.exchanges = 0


class PlaceLink:
    """The way of one replica to it. A share of ``losses`` of its exchanges hang; each takes up to ``delay`` seconds."""

    def __init__(self, place: Place, name: str = "", *, losses: float = 0.0, delay: float = 0.0) -> None:
        self.place = place
        self.name = name
        self.losses = losses
        self.delay = delay
        self.chance = random.Random(name)
        self.closed = False

    async def exchange(self, replica: str, report: bytes) -> Mapping[str, bytes]:
        place = self.place
        place.exchanges += 1
        await asyncio.sleep(self.delay * self.chance.random() / 2)
        if place.refuses:
            raise ConnectionRefusedError
        if place.hangs or self.name in place.cut_off or self.chance.random() < self.losses:
            await asyncio.Event().wait()
        place.reports[replica] = report
        await asyncio.sleep(self.delay * self.chance.random() / 2)
        return dict(place.reports)

    async def remove(self, replicas: Collection[str]) -> None:
        if self.place.hangs or self.name in self.place.cut_off:
            await asyncio.Event().wait()
        for replica in replicas:
            self.place.reports.pop(replica, None)

    async def aclose(self) -> None:
        self.closed = True


class Replica:
    """One process. `sick`: its own way to the dependency is broken; `down` says whether the dependency is."""

    down = False

    def __init__(
        self,
        link: Link,
        *,
        rate: float = 10.0,
        timeout: float = 60.0,
        fail_max: int = 5,
        latency: float = 0.01,
        interval: float = 0.2,
        **options: float,
    ) -> None:
        self.breaker = CircuitBreaker("search", fail_max=fail_max, timeout=timeout, jitter=0)
        self.pipeline = Pipeline("search", self.breaker)
        self.chance = random.Random(getattr(link, "name", ""))
        self.state = SharedState(
            link, interval=interval, policies=[self.breaker], chance=self.chance.random, **options
        )
        self.rate = rate
        self.latency = latency
        self.sick = False
        self.tried = 0

    async def ask(self) -> str:
        """The dependency, as this replica reaches it."""
        self.tried += 1
        await asyncio.sleep(self.latency)
        if self.sick or type(self).down:
            raise ConnectionError
        return "found"

    async def call(self) -> bool:
        """One call; whether it was answered."""
        try:
            await self.pipeline.call(self.ask)
        except Exception:
            return False
        return True

    async def calls(self, number: int) -> None:
        for _ in range(number):
            await self.call()

    async def traffic(self) -> None:
        """Calls for ever, at random times, `rate` a second."""
        while True:
            await asyncio.sleep(self.chance.expovariate(self.rate))
            await self.call()

    @property
    def is_open(self) -> bool:
        return self.breaker.state == "open"

    @property
    def opened_by_others(self) -> int:
        return self.state.snapshot().openings.get("search", 0)

    @property
    def because(self) -> str | None:
        return self.breaker.snapshot().because
