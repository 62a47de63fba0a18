"""What importing the layer costs over ``import asyncio``: ``python -m benchmarks.import_cost [--runs N] [--write]``.

Fresh interpreters in pairs, one with the layer and one without; the difference of each pair. Then the modules that
the import loads from outside the standard library: there must be none.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ._report import machine, table

__all__ = ["Run", "foreign_modules", "main", "pairs"]

LAYER: Final = "mcp_server_langgraph.resilience"
RESULTS: Final = Path(__file__).parent / "results"
LIMIT_MS: Final = 60.0

_FOREIGN: Final = f"""
import asyncio, sys
before = set(sys.modules)
import {LAYER}
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(tops - set(sys.stdlib_module_names) - {{{LAYER.partition(".")[0]!r}}}))
"""


class Run(NamedTuple):
    """Milliseconds that one interpreter took from start to end."""

    cpu: float
    wall: float


def time_of(code: str, environ: Mapping[str, str]) -> Run:
    """Run ``code`` in a new interpreter."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(cpu * 1e3, (time.perf_counter() - began) * 1e3)


def pairs(runs: int) -> list[tuple[Run, Run]]:
    """That many pairs (``import asyncio``, with the layer too), from compiled modules as in a second start."""
    alone, both = "import asyncio", f"import asyncio, {LAYER}"
    with tempfile.TemporaryDirectory() as compiled:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        time_of(both, environ)
        return [(time_of(alone, environ), time_of(both, environ)) for _ in range(runs)]


def foreign_modules() -> list[str]:
    """Packages from outside the standard library that importing the layer loads."""
    found = subprocess.run([sys.executable, "-c", _FOREIGN], check=True, capture_output=True, text=True)
    return found.stdout.split()


def main(arguments: list[str] | None = None) -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.import_cost", description="What the import costs."
    )
    parser.add_argument("--runs", type=int, default=25, help="pairs of interpreters (default: 25)")
    parser.add_argument("--write", action="store_true", help="write the page into benchmarks/results/")
    options = parser.parse_args(arguments)
    page = report(pairs(options.runs), foreign_modules())
    print(page)
    if options.write:
        name = f"import-{sys.version_info.major}.{sys.version_info.minor}.md"
        (RESULTS / name).write_text(page, encoding="utf-8")


def report(measured: list[tuple[Run, Run]], foreign: list[str]) -> str:
    """The page of one run."""
    rows = [
        _row("CPU", [alone.cpu for alone, _ in measured], [both.cpu for _, both in measured]),
        _row("wall", [alone.wall for alone, _ in measured], [both.wall for _, both in measured]),
    ]
    lines = [
        f"# Cost of the import, CPython {sys.version_info.major}.{sys.version_info.minor}",
        "",
        f"{machine()}.",
        f"`python -m benchmarks.import_cost --runs {len(measured)}`: new interpreters in pairs, from compiled modules,",
        f"milliseconds, medians. At most {LIMIT_MS:.0f} ms over `import asyncio` are allowed.",
        f"Packages loaded from outside the standard library: {', '.join(foreign) or 'none'}.",
        "",
        table(["", "`import asyncio`", "with the layer", "difference", "of the minima"], rows),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, alone: list[float], both: list[float]) -> list[str]:
    more = statistics.median(b - a for a, b in zip(alone, both, strict=True))
    numbers = [statistics.median(alone), statistics.median(both), more, min(both) - min(alone)]
    return [f"{name} time", *(f"{number:.1f}" for number in numbers)]


if __name__ == "__main__":
    main()
