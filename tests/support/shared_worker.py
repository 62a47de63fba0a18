"""One process of a service that shares its state: python shared_worker.py REDIS_URL PORT

Calls whoever listens at the port, fifty times a second. Says what its breaker does, a line of JSON each, with the time
on the machine's monotonic clock. Reads commands, a line each: ``sick``, ``well``, ``tell``.

Times of its own are those in which it was let run.
"""

import asyncio
import json
import sys
import time
from functools import partial

from mcp_server_langgraph.resilience import CircuitBreaker, Event, Pipeline, subscribe
from mcp_server_langgraph.resilience.integrations.redis_shared import RedisLink
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.own_time import OwnTime, OwnTimeLoop
from tests.support.ports import HOST

BREAK = 2.0
EVERY = 0.02


class Worker:
    def __init__(self, url: str, port: int, clock: OwnTime) -> None:
        self.port = port
        self.clock = clock
        self.asked_for = 0.0
        self.stood_still = self.behind()
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
        began = self.clock()
        try:
            await self.connect()
        finally:
            self.asked_for = self.clock() - began

    async def connect(self) -> None:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            if not await reader.read(2):
                raise ConnectionError
        finally:
            writer.close()

    def behind(self) -> float:
        """How long this process was not let run since it began."""
        return time.monotonic() - self.clock()

    async def traffic(self) -> None:
        while True:
            due = self.clock() + EVERY
            await asyncio.sleep(EVERY)
            began = self.clock()
            self.lag = max(self.lag, began - due)
            self.asked_for = 0.0
            try:
                await self.pipeline.call(self.ask)
                self.answered += 1
            except Exception:
                self.refused += 1
            self.longest = max(self.longest, self.clock() - began - self.asked_for)

    def tell(self) -> None:
        """The numbers since it was asked last; ``longest`` is that of a call without the dependency's own time."""
        snapshot = self.state.snapshot()
        say(
            kind="told",
            replicas=snapshot.replicas,
            connected=snapshot.connected,
            state=self.breaker.state,
            answered=self.answered,
            refused=self.refused,
            longest=self.longest,
            lag=self.lag + self.behind() - self.stood_still,
        )
        self.answered = self.refused = 0
        self.longest = self.lag = 0.0
        self.stood_still = self.behind()

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
    with OwnTime() as clock, asyncio.Runner(loop_factory=partial(OwnTimeLoop, clock)) as runner:
        runner.run(Worker(sys.argv[1], int(sys.argv[2]), clock).run())
