"""Five real processes, one real server of the Redis protocol, and a dependency that dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import shared_worker
from tests.support.eventually import until
from tests.support.ports import HOST
from tests.support.redis_server import RedisSentinel, RedisServer
from tests.support.tcp_proxy import TcpProxy

PROCESSES = 5
KNOWN_WITHIN = 1.0
EVERY = 0.1
REDIS_TIMEOUT = 0.5
ROOT = Path(__file__).parents[2]


class Dependency:
    """Answers who connects, unless it is dead."""

    def __init__(self) -> None:
        self.dead = False
        self.port = 0

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.dead:
            writer.write(b"ok")
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Dependency]:
        async with await asyncio.start_server(self.serve, HOST, 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self


class Process:
    """A worker, and all that it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            (self.states if said["kind"] == "state" else self.told).append(said)

    def command(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())

    async def tell(self) -> dict[str, Any]:
        """Its numbers since it was asked last."""
        count = len(self.told)
        self.command("tell")
        await until(lambda: len(self.told) > count, within=30)
        return self.told[-1]

    async def end(self) -> None:
        """Close its input, at which it ends by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self.process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.reading


@contextlib.asynccontextmanager
async def service(url: str, port: int, first: str | None = None) -> AsyncIterator[list[Process]]:
    """Five processes that hear each other; the first one may go another way."""
    program = [sys.executable, "-W", "error", shared_worker.__file__]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(*program, way, str(port), stdin=pipe, stdout=pipe, env=environ)
        for way in [first or url, *[url] * (PROCESSES - 1)]
    ]
    processes = [Process(process) for process in started]
    try:
        await until_all(processes, lambda told: told["replicas"] == PROCESSES - 1)
        yield processes
    finally:
        await asyncio.gather(*(process.end() for process in processes))


async def until_all(processes: list[Process], condition: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until each says so."""
    async with asyncio.timeout(40):
        while not all([condition(await process.tell()) for process in processes]):
            await asyncio.sleep(0.05)


async def numbers(processes: list[Process]) -> list[dict[str, Any]]:
    return [await process.tell() for process in processes]


async def nobody_waited(processes: list[Process]) -> None:
    """No call took as long as the link may take; what the machine itself was late by is not held against it."""
    made = [0] * len(processes)
    async with asyncio.timeout(30):
        while min(made) <= 10:
            for number, told in enumerate(await numbers(processes)):
                made[number] += told["answered"] + told["refused"]
                assert told["longest"] < REDIS_TIMEOUT * 0.8 + told["lag"]
            await asyncio.sleep(EVERY)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


async def an_outage_is_known_in_time(processes: list[Process], dependency: Dependency) -> None:
    """It dies, and within a second of the opening that makes the quorum everybody's circuit is open."""
    for process in processes:
        process.states.clear()
    await numbers(processes)
    dependency.dead = True
    await until(lambda: all(process.states for process in processes))
    opened = sorted(process.states[0]["at"] for process in processes)
    lag = max(told["lag"] for told in await numbers(processes))
    # Two openings are the fewest that can be one; with three it is one in any case.
    assert opened[-1] - opened[2] <= KNOWN_WITHIN + lag


async def all_come_back(processes: list[Process], dependency: Dependency) -> None:
    dependency.dead = False
    await until_all(processes, lambda told: told["state"] == "closed")


@pytest.mark.real_time(limit=180)
async def test_five_processes_through_all_that_can_happen_to_their_redis(server: RedisServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dependency = await stack.enter_async_context(Dependency().listening())
        proxy = stack.enter_context(TcpProxy(server.port))
        proxied = f"redis://{HOST}:{proxy.port}/0"
        processes = await stack.enter_async_context(service(server.url, dependency.port, proxied))
        await one_sick_opens_its_own_circuit_only(processes)
        await an_outage_is_known_in_time(processes, dependency)
        await all_come_back(processes, dependency)

        proxy.black_hole()
        await until_all(processes[:1], lambda told: not told["connected"])
        await until_all(processes[1:], lambda told: told["replicas"] == PROCESSES - 2)
        await nobody_waited_while(processes, 0.5)
        proxy.heal()
        await until_all(processes, lambda told: told["replicas"] == PROCESSES - 1)

        server.pause()
        await until_all(processes, lambda told: not told["connected"])
        await nobody_waited_while(processes, 0.5)
        server.resume()
        await until_all(processes, lambda told: told["replicas"] == PROCESSES - 1)

        server.kill()
        await until_all(processes, lambda told: not told["connected"])
        await nobody_waited_while(processes, 0.5)
        server.start()
        await until_all(processes, lambda told: told["replicas"] == PROCESSES - 1)
        await an_outage_is_known_in_time(processes, dependency)
        await all_come_back(processes, dependency)


@pytest.mark.real_time(limit=180)
async def test_five_processes_through_a_failover(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        master = stack.enter_context(RedisServer(tmp_path / "master", "redis"))
        options = {"replicaof": f"{HOST} {master.port}"}
        stack.enter_context(RedisServer(tmp_path / "replica", "redis", **options))
        sentinel = stack.enter_context(RedisSentinel(tmp_path / "sentinel", master))
        await sentinel.knows_a_replica()
        dependency = await stack.enter_async_context(Dependency().listening())
        url = f"redis+sentinel://{HOST}:{sentinel.port}/main"
        processes = await stack.enter_async_context(service(url, dependency.port))
        await numbers(processes)
        master.kill()
        await asyncio.sleep(2)  # more than a lease: who is heard after it is heard over the new master
        await nobody_waited(processes)
        await until_all(processes, lambda told: told["replicas"] == PROCESSES - 1)
        await an_outage_is_known_in_time(processes, dependency)
        await all_come_back(processes, dependency)


async def nobody_waited_while(processes: list[Process], seconds: float) -> None:
    await numbers(processes)
    await asyncio.sleep(seconds)
    await nobody_waited(processes)


async def one_sick_opens_its_own_circuit_only(processes: list[Process]) -> None:
    sick, *others = processes
    sick.command("sick")
    await until(lambda: sick.states)
    await asyncio.sleep(2 * KNOWN_WITHIN)
    assert [process.states for process in others] == [[]] * len(others)
    sick.command("well")
    await until_all(processes, lambda told: told["state"] == "closed")
