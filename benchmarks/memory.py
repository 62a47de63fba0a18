"""What ten thousand keyed breakers weigh: ``python -m benchmarks.memory [--write]``.

Bytes allocated by Python (``tracemalloc``) from before the first call to after the last, for keys that come with calls:
everything that a key costs, its name included, once through a pipeline. At most 20 MB are allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Keyed, Pipeline, Policy

from ._report import machine, table

__all__ = ["KEYS", "LIMIT_MB", "main", "weigh"]

RESULTS: Final = Path(__file__).parent / "results"
KEYS: Final = 10_000
LIMIT_MB: Final = 20.0

CASES: Final[dict[str, tuple[Callable[[str], Policy], bool]]] = {
    "**breakers**": (lambda key: CircuitBreaker(), False),
    "breakers, each open": (lambda key: CircuitBreaker(fail_max=1), True),
    "breakers with a failure rate": (lambda key: CircuitBreaker(failure_rate=0.5), False),
    "bulkheads of 10": (lambda key: Bulkhead(10), False),
}


def weigh(make: Callable[[str], Policy], *, failing: bool = False, keys: int = KEYS) -> float:
    """MB that as many keys take after one call each."""
    return asyncio.run(_weigh(make, failing, keys))


async def _weigh(make: Callable[[str], Policy], failing: bool, keys: int) -> float:
    pipeline = Pipeline("svc", Keyed(make, key=lambda key: key, max_keys=keys + 1))
    await _ask(pipeline, "warm", failing)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(keys):
            await _ask(pipeline, f"host-{number}.example", failing)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 1e6
    finally:
        tracemalloc.stop()


async def _ask(pipeline: Pipeline, key: str, failing: bool) -> None:
    with contextlib.suppress(ConnectionError):
        await pipeline.call(_failing if failing else _answering, key)


async def _answering(key: str) -> None:
    """The call that is guarded."""


async def _failing(key: str) -> None:
    raise ConnectionError


def main(arguments: list[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description="What keys weigh.")
    parser.add_argument("--write", action="store_true", help="write the page into benchmarks/results/")
    options = parser.parse_args(arguments)
    page = report({name: weigh(make, failing=failing) for name, (make, failing) in CASES.items()})
    print(page)
    if options.write:
        name = f"memory-{sys.version_info.major}.{sys.version_info.minor}.md"
        (RESULTS / name).write_text(page, encoding="utf-8")


def report(weights: dict[str, float]) -> str:
    """The page of one run."""
    rows = [[name, f"{weight:.1f}", f"{weight * 1e6 / KEYS:,.0f}"] for name, weight in weights.items()]
    lines = [
        f"# Memory of {KEYS:,} keys, CPython {sys.version_info.major}.{sys.version_info.minor}",
        "",
        f"{machine()}.",
        "`python -m benchmarks.memory`: one call for each key, then what `tracemalloc` counts.",
        f"At most {LIMIT_MB:.0f} MB are allowed for the breakers.",
        "",
        table(["", "MB", "bytes a key"], rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # thousands of breakers open
    main()
