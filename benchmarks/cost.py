"""What one call costs: ``python -m benchmarks.cost [--rounds N] [--sample-ms MS] [--write]``.

Checks that every stack does its job, measures all of them side by side, and prints the tables. ``--write`` puts them
into ``benchmarks/results/cost-<python version>.md`` too.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path
from typing import Final

from ._cases import STACKS, cases
from ._jobs import check
from ._measure import Measured, measure
from ._report import report

__all__ = ["main"]

RESULTS: Final = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Run it from the command line."""
    options = _parser().parse_args(arguments)
    logging.disable(logging.ERROR)  # what is checked and measured fails on purpose
    for stack in STACKS:
        check(stack)
    print(f"{len(STACKS)} stacks do their job", file=sys.stderr)
    measured = asyncio.run(_run(options.rounds, options.sample_ms))
    page = report(measured, command=_command(options), rounds=options.rounds, seconds=time.process_time())
    print(page)
    if options.write:
        target = RESULTS / f"cost-{sys.version_info.major}.{sys.version_info.minor}.md"
        target.write_text(page, encoding="utf-8")


async def _run(rounds: int, sample_ms: float) -> list[Measured]:
    return await measure(await cases(), rounds=rounds, sample_ms=sample_ms)


def _command(options: argparse.Namespace) -> str:
    return f"python -m benchmarks.cost --rounds {options.rounds} --sample-ms {options.sample_ms:g}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description="What one call costs.")
    parser.add_argument("--rounds", type=int, default=200, help="samples of each case (default: 200)")
    parser.add_argument("--sample-ms", type=float, default=1.5, help="length of a sample (default: 1.5)")
    parser.add_argument("--write", action="store_true", help="write the page into benchmarks/results/")
    return parser


if __name__ == "__main__":
    main()
