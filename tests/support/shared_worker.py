"""One process of a service that shares its state: python shared_worker.py REDIS_URL PORT

Calls whoever listens at the port, fifty times a second. Says what its breaker does, a line of JSON each, with the time
on the machine's monotonic clock. Reads commands, a line each: ``sick``, ``well``, ``tell``.
"""

import asyncio
import json
import sys
import time

from mcp_server_langgraph.resilience import CircuitBreaker, Event, Pipeline, subscribe
from mcp_server_langgraph.resilience.integrations.redis_shared import RedisLink
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.ports import HOST

BREAK = 2.0
EVERY = 0.02


class Worker:
    def __init__(self, url: str, port: int) -> None:
        self.port = port
        self.sick = False
        self.breaker = CircuitBreaker("dependency", fail_max=5, timeout=BREAK, jitter=0)
        self.pipeline = Pipeline("dependency", self.breaker)
        self.state = SharedState(RedisLink(url), lease=1.5)
        self.answered = self.refused = 0
        self.longest = self.lag = 0.0

    async def ask(self) -> None:
        """One request to the dependency."""
        if self.sick:
            raise ConnectionError
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            if not await reader.read(2):
                raise ConnectionError
        finally:
            writer.close()

    async def traffic(self) -> None:
        while True:
            due = time.monotonic() + EVERY
            await asyncio.sleep(EVERY)
            began = time.monotonic()
            self.lag = max(self.lag, began - due)
            try:
                await self.pipeline.call(self.ask)
                self.answered += 1
            except Exception:
                self.refused += 1
            self.longest = max(self.longest, time.monotonic() - began)

    def tell(self) -> None:
        """The numbers since it was asked last."""
        snapshot = self.state.snapshot()
        say(
            kind="told",
            replicas=snapshot.replicas,
            connected=snapshot.connected,
            state=self.breaker.state,
            answered=self.answered,
            refused=self.refused,
            longest=self.longest,
            lag=self.lag,
        )
        self.answered = self.refused = 0
        self.longest = self.lag = 0.0

    def hear(self, event: Event) -> None:
        if event.kind == "state_change":
            say(kind="state", after=event.details["after"], because=event.details.get("because"))

    async def run(self) -> None:
        subscribe(self.hear)
        loop = asyncio.get_running_loop()
        async with self.state:
            traffic = asyncio.create_task(self.traffic())
            while command := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
                if command == "tell":
                    self.tell()
                else:
                    self.sick = command == "sick"
            traffic.cancel()
            await asyncio.wait([traffic])


def say(**what: object) -> None:
    print(json.dumps({"at": time.monotonic(), **what}), flush=True)


if __name__ == "__main__":
    asyncio.run(Worker(sys.argv[1], int(sys.argv[2])).run())
