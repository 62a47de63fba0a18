"""Writes docs/reference/faults.md and its picture from the rows that the last run kept: python -m tests.faults.page"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.faults.expected import EXPECTED, Cell
from tests.faults.faults import FAULTS
from tests.faults.figure import figure
from tests.faults.rows import kept
from tests.faults.scenes import SCENES

__all__ = ["FIGURE", "PAGE", "page", "picture"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "faults.md"
FIGURE: Final = PAGE.with_name("faults.svg")

_INTRODUCTION: Final = """# When a service fails

What callers of the server get while one of the services behind it fails, in twelve ways each: found by
`tests/faults`, which play every cell of this matrix against the whole server (settings, wiring, HTTP, tools) and real
sockets. Behind the server stand OpenFGA's own server, Valkey, Prometheus, and stand-ins that are processes of their own
for Keycloak's realm and for the providers of models. Made by `python -m tests.faults.page`; do not edit.

![What three callers get, for each service and fault](faults.svg)

Each cell has three callers, named below for each service. An answer is *whole*, or *degraded* and says which service
is missing and what stood in for it, or an *error* that says what is unavailable.

The bounds hold under the settings of the tests, which wait less between attempts (up to 0.02, 0.04 s) and keep a
circuit open for half a second. What callers wait under the defaults, 20 calls a second from the first moment of the
fault on, is measured for every cell: see [the benchmarks](benchmarks.md#while-a-service-fails).

## The faults

"""

_COLUMNS: Final = """
- **known**, **new**, **later**: what the three callers get.
- **within**: seconds in which even the slowest of all calls had its answer.
- **costs**: attempts of the first call. What came over the wire is counted and compared: no client below repeats
  anything, and it is never more than the pipelines' `describe()` promise.
- **breaker**: whether it opens while some callers go on asking.
- **recovers**: seconds from the end of the fault until answers are whole and the breaker is closed.
"""


def page() -> str:
    """The page that the rows of the last run make, in the order of the matrix."""
    parts = [_INTRODUCTION, _table(("fault", "what happens"), _faults()), "\n## The columns\n", _COLUMNS]
    for service, scene in SCENES.items():
        known, new, later = scene.callers
        parts += [
            f"\n## {service}\n\n",
            f"**known** {known}; **new** {new}; **later** {later}.\n\n",
            _table(
                ("fault", "known", "new", "later", "within", "costs", "breaker", "recovers"),
                _grouped(_cells(service)),
            ),
        ]
    return "".join(parts)


def picture() -> str:
    """The picture beside it."""
    return figure(EXPECTED)


def _faults() -> Iterator[Sequence[str]]:
    for fault in FAULTS.values():
        yield fault.name, fault.meaning


def _cells(service: str) -> Iterator[Sequence[str]]:
    rows = kept()
    for fault in FAULTS:
        cell = EXPECTED[service][fault]
        seen = rows[f"{service}: {fault}"]
        told = (seen.known, seen.new, seen.later) if fault != "flapping" else _flapping(cell)
        breaker = "either" if fault == "flapping" else "opens" if seen.opened else "stays closed"
        yield fault, *told, f"{cell.within:g} s", _costs(cell), breaker, f"{cell.recovers:g} s"


def _grouped(rows: Iterator[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Faults that look all the same are one line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for fault, *rest in rows:
        alike.setdefault(tuple(rest), []).append(fault)
    for told, faults in alike.items():
        yield ", ".join(faults), *told


def _flapping(cell: Cell) -> tuple[str, str, str]:
    return f"whole, or {cell.known}", f"whole, or {cell.new}", f"whole, or {cell.later}"


def _costs(cell: Cell) -> str:
    least, most = cell.attempts
    return str(least) if least == most else f"{least} to {most}"


def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIGURE.write_text(picture(), encoding="utf-8")
