"""The tables, as Markdown."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import _cases, ours
from ._measure import Measured
from .hand_fused_five import HAND_FUSED_FIVE

__all__ = ["machine", "report", "table", "verdict"]

TARGET: Final = 20.0
BY_HAND: Final = 1.3

_HEADINGS: Final = {
    _cases.SUCCESS: "One call that succeeds",
    _cases.FAIL_FAST: "An open breaker refuses (beside one raise and catch)",
    _cases.RETRY: "The first attempt fails, the second succeeds, no wait (beside a plain loop)",
    _cases.CONCURRENT: f"{_cases.TASKS:,} calls suspended at once, a task each (beside bare tasks)",
}

Row = Sequence[str]


def table(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table; every column but the first holds numbers."""
    rule = ["---", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def machine() -> str:
    """What it ran on, in one line."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = os.getloadavg()[0]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{python}, {os.cpu_count()} cores of {_cpu()}, {system}, load {load:.1f}, {today}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def report(measured: Sequence[Measured], *, command: str, rounds: int, seconds: float) -> str:
    """The whole page of one run."""
    lines = [
        f"# Cost of one call, CPython {sys.version_info.major}.{sys.version_info.minor}",
        "",
        f"{machine()}.",
        f"`{command}`: up to {rounds} samples of each case, all cases interleaved, {seconds:.0f} s of CPU.",
        "Process CPU time in ns per call. The median over the samples carries whatever else the machine was doing; the",
        "minimum is the quiet machine. Each case was first checked to do its job. In the last column the function",
        "awaits `sleep(0)` once: what the policies then add to the bare await of it (minimum).",
        "",
        verdict(measured),
    ]
    for name, heading in _HEADINGS.items():
        lines += ["", f"## {heading}", "", _table_of(name, measured)]
    return "\n".join(lines) + "\n"


def verdict(measured: Sequence[Measured]) -> str:
    """Where the four policies stand against the target."""
    rows = {each.case.name: each for each in measured if each.case.table == _cases.SUCCESS}
    bare, four = rows[_cases.BARE.name], rows[ours.FOUR.name]
    at_median, at_min = four.median / bare.median, four.min / bare.min
    told = f"{at_median:.1f}x a bare await (at the minimum {at_min:.1f}x)"
    five, by_hand = rows[ours.FIVE.name], rows[HAND_FUSED_FIVE.name]
    beside = f"{five.median / by_hand.median:.2f}x the same by hand ({five.min / by_hand.min:.2f}x)"
    return (
        f"Four policies with metrics: {told}; the target on CPython 3.12 is at most {TARGET:.0f}x. "
        f"Five: {beside}; at most {BY_HAND:.1f}x."
    )


def _table_of(name: str, measured: Sequence[Measured]) -> str:
    rows = [each for each in measured if each.case.table == name]
    header = ["", "median ns", "min ns", "x (median)", "x (min)"]
    cells = [_row(row, rows[0]) for row in rows]
    if name == _cases.SUCCESS:
        header.append("ns more, suspending once")
        suspending = {each.case.name: each.min for each in measured if each.case.table == _cases.SUSPENDING}
        more = [suspending[row.case.name] - suspending[rows[0].case.name] for row in rows]
        cells = [[*cell, f"{difference:+,.0f}"] for cell, difference in zip(cells, more, strict=True)]
    return table(header, cells)


def _row(row: Measured, base: Measured) -> list[str]:
    ratios = [f"{row.median / base.median:.1f}", f"{row.min / base.min:.1f}"]
    return [row.case.name, f"{row.median:,.0f}", f"{row.min:,.0f}", *ratios]
