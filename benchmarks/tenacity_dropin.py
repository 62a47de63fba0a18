"""What a retried call costs with tenacity and with its drop-in: ``python -m benchmarks.tenacity_dropin [--write]``.

Both are given the same function and the same conditions, and every case is first seen to make its attempts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import tenacity

from mcp_server_langgraph.resilience.integrations.tenacity import AsyncRetrying

from ._measure import Case, Measured, measure
from ._report import machine, table

__all__ = ["cases", "main", "report"]

RESULTS: Final = Path(__file__).parent / "results"
# How many times less a decorated function's first attempt that succeeds is to cost, at the least.
TARGET: Final = 40.0

DECORATED: Final = "decorated, the first attempt succeeds"
CALLED: Final = "`AsyncRetrying(...)(fn)`, the first succeeds"
LOOP: Final = "`async for attempt in AsyncRetrying(...)`, the first succeeds"
SECOND: Final = "decorated, the second attempt succeeds, no wait"
BARE: Final = "bare await"

Fn = Callable[[], Awaitable[Any]]


class Dependency:
    """Fails on so many of every few calls, the first ones, and counts calls."""

    def __init__(self, failing: int = 0) -> None:
        self.failing = failing
        self.calls = 0

    async def answer(self) -> int:
        self.calls += 1
        if self.failing and self.calls % (self.failing + 1):
            raise ConnectionError
        return 1


async def bare() -> int:
    return 1


def _ways(kind: type[tenacity.AsyncRetrying]) -> dict[str, Fn]:
    retrying = kind(stop=tenacity.stop_after_attempt(3), sleep=_no_sleep)
    failing = Dependency(1).answer

    async def second() -> int:
        return await failing()

    async def loop() -> int:
        async for attempt in retrying:
            with attempt:
                return await bare()
        raise AssertionError("no attempt was made")

    return {
        DECORATED: retrying.wraps(bare),
        CALLED: lambda: retrying(bare),
        LOOP: loop,
        SECOND: retrying.wraps(second),
    }


async def _no_sleep(seconds: float) -> None:
    return None


async def cases() -> list[Case]:
    """Every case, seen to give its result."""
    found = [Case(BARE, "", _many(bare))]
    for name, kind in (("tenacity", tenacity.AsyncRetrying), ("drop-in", AsyncRetrying)):
        for way, call in _ways(kind).items():
            assert await call() == 1
            found.append(Case(way, name, _many(call)))
    return found


def _many(call: Fn) -> Callable[[int], Awaitable[None]]:
    async def sample(calls: int) -> None:
        for _ in range(calls):
            await call()

    return sample


def report(measured: Sequence[Measured], rounds: int) -> str:
    """The page of one run."""
    least = {(each.case.table, each.case.name): each.min for each in measured}
    rows = []
    for way in (DECORATED, CALLED, LOOP, SECOND):
        theirs, ours = least[way, "tenacity"], least[way, "drop-in"]
        rows.append([way, f"{theirs:,.0f}", f"{ours:,.0f}", f"{theirs / ours:.1f}"])
    lines = [
        f"# tenacity {version('tenacity')} and its drop-in, CPython {sys.version_info.major}.{sys.version_info.minor}",
        "",
        f"{machine()}.",
        f"`python -m benchmarks.tenacity_dropin`: {rounds} samples a case, interleaved. CPU ns per call, the least.",
        f"A bare await: {least[BARE, '']:,.0f} ns. Aimed at: {TARGET:g} times less in the first row.",
        "",
        table(["", "tenacity, ns", "drop-in, ns", "times less"], rows),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tenacity_dropin", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="samples of each case (default: 60)")
    parser.add_argument("--write", action="store_true", help="write the page into benchmarks/results/")
    options = parser.parse_args(arguments)
    page = report(asyncio.run(_measured(options.rounds)), options.rounds)
    print(page)
    if options.write:
        name = f"tenacity-{sys.version_info.major}.{sys.version_info.minor}.md"
        (RESULTS / name).write_text(page, encoding="utf-8")


async def _measured(rounds: int) -> list[Measured]:
    return await measure(await cases(), rounds=rounds, sample_ms=2.0)


if __name__ == "__main__":
    main()
