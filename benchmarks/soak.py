"""A million calls of every kind, and what is left of them.

    python -m benchmarks.soak [CALLS] > benchmarks/results/soak.md

Takes some minutes. `_soak` says what the calls are; `tests/scenarios/test_soak.py` runs some thousands of them.
"""

from __future__ import annotations

import logging
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Final

from mcp_server_langgraph.resilience.testing import run

from ._report import machine, table
from ._soak import LeftOver, Soak

__all__ = ["main"]

SEED: Final = 1
# Parts of the calls after which it is looked.
STAGES: Final = (0.1, 0.5, 1.0)

Row = tuple[LeftOver, float, float]


async def soak(calls: int) -> tuple[Soak, list[Row]]:
    """What is left at each stage, with the seconds of CPU so far and the resident megabytes."""
    program = Soak(SEED)
    began = time.process_time()
    rows = []
    for stage in STAGES:
        await program.run(round(calls * stage) - program.calls)
        rows.append((program.left_over(), time.process_time() - began, _resident()))
    return program, rows


def _resident() -> float:
    """Megabytes, where the system tells."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def _table(rows: list[Row]) -> str:
    header = ["calls", "seconds", "tasks", "timers", "held", "objects", "blocks", "resident MB"]
    cells = [
        [
            f"{left.calls:,}",
            f"{seconds:.0f}",
            *(f"{number:,}" for number in (left.tasks, left.timers, left.held, left.objects, left.blocks)),
            f"{resident:.1f}",
        ]
        for left, seconds, resident in rows
    ]
    return table(header, cells)


def main(calls: int) -> None:
    """Print the tables."""
    logging.disable(logging.CRITICAL)
    program, rows = run(soak(calls), max_iterations=None)
    print("# Soak\n")
    print(f"{machine()}.\n")
    print(_table(rows))
    print("\nHow they ended:\n")
    ends = sorted(program.ends.items(), key=lambda end: -end[1])
    print(table(["", "calls"], [[name, f"{count:,}"] for name, count in ends]))
    tracemalloc.start()
    _, traced = run(soak(calls // 10), max_iterations=None)
    print("\nA tenth as many, with tracemalloc (kilobytes):\n")
    print(table(["calls", "kB"], [[f"{left.calls:,}", f"{left.traced / 1000:,.0f}"] for left, *_ in traced]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
