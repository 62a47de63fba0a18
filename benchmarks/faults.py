"""What callers wait and get while a service fails, under the server's default settings, cell by cell.

    python -m benchmarks.faults                      # all cells, an hour
    python -m benchmarks.faults --only redis openfga:503 --seconds 10
    python -m benchmarks.faults --page               # only write the page anew

Each cell is 30 seconds of 20 tool calls a second that begin with the fault. Results are kept in
benchmarks/results/faults.json, cell by cell, so runs of several services may go on at once and be taken up again;
benchmarks/results/faults.md shows them.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.faults.faults import FAULTS
from tests.faults.scenes import SCENES, on_stage

from ._fault_load import NO_FAULT, Measured, measure
from ._report import machine, table

__all__ = ["main", "measured", "page"]

RESULTS: Final = Path(__file__).parent / "results"
TARGET: Final = 0.5
"""Seconds for the 95th percentile."""

CELLS: Final = (NO_FAULT.name, *FAULTS)

_HEADER: Final = ("", "whole", "degraded", "error", "p50 ms", "p95 ms", "max ms", "requests", "connections")


def measured() -> list[Measured]:
    """What was measured last of each cell, in the order of the matrix."""
    kept = _kept()
    order = [f"{service}:{fault}" for service in SCENES for fault in CELLS]
    return [Measured(**kept[name]) for name in order if name in kept]


def page(machine_line: str) -> str:
    """The results as Markdown."""
    rows = measured()
    loads = [row.load for row in rows]
    lines = [
        "# While a service fails",
        "",
        f"{machine_line}. Load of the machine while it ran: {min(loads):.1f} to {max(loads):.1f}.",
        "Each row is 30 s of 20 tool calls a second that begin with the fault (`python -m benchmarks.faults`), made by "
        "several users on a server with default settings, in a process of its own. `requests` and `connections` are "
        "what reached the service in that time.",
        "",
        "## The 95th percentile, ms",
        "",
        table(("", *SCENES), [[fault, *_of_each_service(fault, rows)] for fault in CELLS]),
    ]
    for service in SCENES:
        own = [row for row in rows if row.service == service]
        if own:
            lines += ["", f"## {service}", "", table(_HEADER, [_row(row) for row in own])]
    return "\n".join(lines) + "\n"


def _of_each_service(fault: str, rows: list[Measured]) -> list[str]:
    p95 = {row.service: row.p95 for row in rows if row.fault == fault}
    return [_against_target(p95[service]) if service in p95 else "" for service in SCENES]


def _against_target(seconds: float) -> str:
    return f"{seconds * 1000:.0f}" if seconds < TARGET else f"**{seconds * 1000:,.0f}**"


def _row(row: Measured) -> list[str]:
    shares = [f"{100 * part / row.calls:.0f} %" for part in (row.whole, row.degraded, row.errors)]
    times = [f"{seconds * 1000:.0f}" for seconds in (row.median, row.p95, row.longest)]
    return [row.fault, *shares, *times, str(row.requests), str(row.connections)]


def _kept() -> dict[str, Any]:
    path = RESULTS / "faults.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _keep(row: Measured) -> None:
    """Add the row to the results; other runs may do so at the same time."""
    with (Path(tempfile.gettempdir()) / "benchmarks-faults.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = {**_kept(), f"{row.service}:{row.fault}": row.plain()}
        text = json.dumps(dict(sorted(kept.items())), indent=1)
        (RESULTS / "faults.json").write_text(text + "\n")
        (RESULTS / "faults.md").write_text(page(machine()))


def _run(wanted: list[str], seconds: float, rate: float) -> None:
    cells = [(service, fault) for service in SCENES for fault in CELLS]
    for service, fault in cells:
        if not wanted or {service, f"{service}:{fault}"} & set(wanted):
            began = time.monotonic()
            # A stage of its own for each cell: one user may keep no more than 1,000 conversations.
            with tempfile.TemporaryDirectory() as folder, on_stage(service, Path(folder)) as scene:
                row = asyncio.run(measure(scene, fault, seconds=seconds, rate=rate))
            _keep(row)
            took = time.monotonic() - began
            print(f"{service:14} {' '.join(f'{cell:>9}' for cell in _row(row))}  ({took:.0f} s)", flush=True)


def main() -> None:
    """Measure the wanted cells."""
    parser = argparse.ArgumentParser(description="What callers wait and get while a service fails.")
    parser.add_argument("--only", nargs="+", default=[], metavar="SERVICE[:FAULT]")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args()
    if options.page:
        (RESULTS / "faults.md").write_text(page(machine()))
    else:
        _run(options.only, options.seconds, options.rate)


if __name__ == "__main__":
    main()
