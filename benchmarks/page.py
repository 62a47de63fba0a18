"""Puts the newest results into the documentation: ``python -m benchmarks.page [--check]``.

Between ``<!-- measured: NAME -->`` and ``<!-- end -->`` of ``docs/reference/benchmarks.md`` stand tables made from
``benchmarks/results``; ``--check`` only says, by its exit status, whether they are up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from ._report import table

__all__ = ["main", "render"]

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
PAGE: Final = ROOT / "docs" / "reference" / "benchmarks.md"
VERSIONS: Final = ("3.11", "3.12", "3.13")
PREFERRED: Final = "3.12"

Cells = dict[str, list[str]]


def main() -> None:
    """Run it from the command line."""
    old = PAGE.read_text(encoding="utf-8")
    new = render(old)
    if "--check" in sys.argv[1:]:
        sys.exit(new != old)
    PAGE.write_text(new, encoding="utf-8")


def render(page: str) -> str:
    """The page with its tables as the results have them now."""
    blocks = {"machine": _machine(), "success": _beside(), "import": _imports(), "memory": _memory()}
    blocks |= {"increments": _increments(), "parts": _tables(_read("parts", PREFERRED))[0][0]}
    soak = _tables((RESULTS / "soak.md").read_text(encoding="utf-8"))
    blocks |= {"soak": soak[0][0], "soak_traced": soak[2][0]}
    blocks |= {"tenacity": _tenacity()}
    for name in ("agent", "faults", "garbage", "sessions", "shared"):
        blocks[name] = _tables((RESULTS / f"{name}.md").read_text(encoding="utf-8"))[0][0]
    blocks |= {name: _tables(_read("cost", PREFERRED))[index][0] for index, name in _OTHERS.items()}
    return _BLOCK.sub(lambda found: f"{found['begin']}{blocks[found['name']]}\n{found['end']}", page)


_BLOCK: Final = re.compile(r"(?s)(?P<begin><!-- measured: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)")
_OTHERS: Final = {1: "fail_fast", 2: "retry", 3: "concurrent"}


def _machine() -> str:
    return _read("cost", PREFERRED).splitlines()[2]


def _beside() -> str:
    """The success path: the preferred version's times, and every version's ratios."""
    columns = {version: _tables(_read("cost", version))[0][1] for version in _present("cost")}
    rows = []
    for name, cells in columns[PREFERRED].items():
        ratios = [f"{cells_of[name][2]} ({cells_of[name][3]})" for cells_of in columns.values()]
        rows.append([name, cells[0], cells[1], *ratios, cells[4]])
    ratios = [f"x, {version}" for version in columns]
    return table(["", "median ns", "min ns", *ratios, "ns more, suspending once"], rows)


# Each policy's row, the row of the same without it, and what it was to cost at most, in bare awaits.
_ALONE: Final = (
    ("histogram alone", "pipeline, no policy (histogram)", "", 7.0),
    ("circuit breaker", "pipeline, circuit breaker", "pipeline, no policy (histogram)", 1.5),
    ("retry", "pipeline, retry", "pipeline, no policy (histogram)", 1.0),
    ("bulkhead", "pipeline, bulkhead", "pipeline, no policy (histogram)", 1.0),
    ("attempt timeout", "pipeline, retry and attempt timeout", "pipeline, retry", 3.0),
    ("total timeout", "pipeline, total timeout", "pipeline, no policy (histogram)", 4.0),
    ("total timeout over four", "**pipeline, five policies**", "**pipeline, four policies**", 4.0),
    ("the same by hand", "the same five, fused by hand", "the same work, fused by hand", 4.0),
)


def _increments() -> str:
    """What each policy adds, in bare awaits, by the minimum: the differences are small, and noise only adds."""
    columns = {version: _tables(_read("cost", version))[0][1] for version in _present("cost")}
    rows = []
    for name, row, without, aim in _ALONE:
        more = [_in_bare_awaits(cells, row) - _in_bare_awaits(cells, without) for cells in columns.values()]
        rows.append([name, f"{aim:.1f}", *(f"{each:+.1f}" if without else f"{each:.1f}" for each in more)])
    return table(["", "aim, 3.12", *columns], rows)


def _in_bare_awaits(cells: Cells, row: str) -> float:
    if not row:
        return 0.0
    least, bare = (float(cells[name][1].replace(",", "")) for name in (row, "bare await"))
    return least / bare


def _imports() -> str:
    rows = []
    for version in _present("import"):
        cells = _tables(_read("import", version))[0][1]
        rows.append([version, *(cells[row][2] for row in ("CPU time", "wall time"))])
    return table(["CPython", "CPU ms over `import asyncio`", "wall ms"], rows)


def _memory() -> str:
    """Megabytes in every version."""
    columns = {version: _tables(_read("memory", version))[0][1] for version in _present("memory")}
    names = next(iter(columns.values()))
    rows = [[name, *(f"{cells[name][0]} ({cells[name][1]})" for cells in columns.values())] for name in names]
    return table(["", *(f"MB (bytes a key), {version}" for version in columns)], rows)


def _tenacity() -> str:
    """The preferred version's times, and how many times less in every version."""
    columns = {version: _tables(_read("tenacity", version))[0][1] for version in _present("tenacity")}
    rows = [
        [name, *cells[:2], *(column[name][2] for column in columns.values())]
        for name, cells in columns[PREFERRED].items()
    ]
    return table(
        ["", "tenacity, ns", "drop-in, ns", *(f"times less, {version}" for version in columns)], rows
    )


def _present(kind: str) -> list[str]:
    return [version for version in VERSIONS if (RESULTS / f"{kind}-{version}.md").exists()]


def _read(kind: str, version: str) -> str:
    return (RESULTS / f"{kind}-{version}.md").read_text(encoding="utf-8")


def _tables(page: str) -> list[tuple[str, Cells]]:
    """Each table of a page: its text, and the cells of its rows by the first one."""
    found = re.findall(r"(?:^\|.*\|\n?)+", page, re.MULTILINE)
    return [(text.strip(), _cells(text)) for text in found]


def _cells(text: str) -> Cells:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    return {row[0]: row[1:] for row in rows[2:]}


if __name__ == "__main__":
    main()
