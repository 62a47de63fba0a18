"""What shared state costs the calls: how long one takes, alone and while the state is shared.

    python -m benchmarks.shared > benchmarks/results/shared.md

One call after another through a pipeline of four policies, around a function that gives the loop one turn: whatever the
background does in the loop falls into some call. Four other replicas are in a process of their own. The cases take
turns, so that whatever disturbs the machine disturbs all alike; the medians of the rounds are shown. Four minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Pipeline, Retry, Timeout
from mcp_server_langgraph.resilience.integrations.redis_shared import RedisLink
from mcp_server_langgraph.resilience.integrations.shared import SharedState
from tests.support.redis_server import RedisServer

from ._report import machine, table

ROUNDS: Final = 21
SECONDS: Final = 1.0
SETTLE: Final = 1.0
PEERS: Final = 4
CASES: Final = ("alone", "shared, Redis well", "shared, Redis hung", "shared, Redis killed")
SHARES: Final = (0.5, 0.99, 0.999)


async def work() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


def pipeline() -> Pipeline:
    """Four policies, as in front of a real dependency."""
    return Pipeline("search", Bulkhead(10), Retry(), CircuitBreaker("search"), Timeout(1))


async def durations(guarded: Pipeline) -> list[float]:
    """Of each call in some seconds, in microseconds, sorted."""
    taken: list[float] = []
    clock, call = time.perf_counter, guarded.call
    end = clock() + SECONDS
    while (began := clock()) < end:
        await call(work)
        taken.append((clock() - began) * 1e6)
    return sorted(taken)


@contextlib.asynccontextmanager
async def situation(case: str, server: RedisServer, guarded: Pipeline) -> AsyncIterator[None]:
    """What is measured in, and undone afterwards."""
    if case == "alone":
        yield
        return
    async with SharedState(RedisLink(server.url)) as state:
        async with asyncio.timeout(20):
            while state.snapshot().replicas < PEERS:
                await guarded.call(work)
                await asyncio.sleep(0.05)
        if case.endswith("hung"):
            server.pause()
        elif case.endswith("killed"):
            server.kill()
        await asyncio.sleep(SETTLE)
        yield
    if case.endswith("hung"):
        server.resume()
    elif case.endswith("killed"):
        server.start()


async def measure(server: RedisServer) -> dict[str, list[list[float]]]:
    """The percentiles of each round, by case."""
    guarded = pipeline()
    measured: dict[str, list[list[float]]] = {case: [] for case in CASES}
    for done in range(ROUNDS):
        turn = done % len(CASES)
        for case in (*CASES[turn:], *CASES[:turn]):
            async with situation(case, server, guarded):
                taken = await durations(guarded)
            measured[case].append([taken[int(share * (len(taken) - 1))] for share in SHARES])
        print(f"round {done + 1} of {ROUNDS}", file=sys.stderr)
    return measured


async def peers(url: str) -> None:
    """Replicas that only share, until they are killed."""
    guarded = pipeline()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(PEERS):
            await stack.enter_async_context(SharedState(RedisLink(url)))
        while True:
            await guarded.call(work)
            await asyncio.sleep(0.1)


def ratios(rounds: list[list[float]], alone: list[list[float]]) -> list[float]:
    """To those alone in the same round; the median of the rounds."""
    each = [
        [a / b for a, b in zip(one, other, strict=True)] for one, other in zip(rounds, alone, strict=True)
    ]
    return [statistics.median(values) for values in zip(*each, strict=True)]


def report(measured: dict[str, list[list[float]]]) -> str:
    """The page."""
    middle = {
        case: [statistics.median(values) for values in zip(*rounds, strict=True)]
        for case, rounds in measured.items()
    }
    rows = [
        [
            case,
            *(f"{value:.1f}" for value in values),
            *(f"{ratio:.2f}" for ratio in ratios(measured[case], measured["alone"])),
        ]
        for case, values in middle.items()
    ]
    head = ["one call", "p50 us", "p99 us", "p99.9 us", "p50 ratio", "p99 ratio", "p99.9 ratio"]
    return f"# Cost of shared state to the calls\n\n{machine()}\n\n{table(head, rows)}\n"


def main() -> None:
    """Measure, and print the page."""
    if sys.argv[1:2] == ["peers"]:
        asyncio.run(peers(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        others = subprocess.Popen([sys.executable, "-m", "benchmarks.shared", "peers", server.url])
        try:
            print(report(asyncio.run(measure(server))), end="")
        finally:
            others.kill()
            others.wait()


if __name__ == "__main__":
    main()
