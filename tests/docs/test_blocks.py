"""Every block of code in the documentation is true.

Python is run, page by page and from top to bottom, in virtual time where nothing in it needs sockets. What it prints
must stand in the page: in an ``output`` block right below, or in ``# -> ...`` comments behind its ``print`` calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from mcp_server_langgraph.resilience import events
from mcp_server_langgraph.resilience.config import DEFAULTS
from mcp_server_langgraph.settings import Settings, load
from tests.docs.pages import PAGES, Block, Page, page_id, read
from tests.docs.running import PageRunner, printed_by
from tests.docs.settings_names import is_setting
from tests.docs.shown import as_pattern

pages = pytest.mark.parametrize("path", PAGES, ids=page_id)

LANGUAGES = {
    "console": "commands, each after a $, and what they print: see test_commands.py",
    "env": "lines of NAME=value, which the settings must accept",
    "json": "must parse",
    "mermaid": "a figure",
    "output": "what the Python block above it prints, exactly",
    "python": "is run",
    "text": "a drawing or a form, shown as it is",
}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*DEFAULTS, *map(str.upper, Settings.model_fields)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(events, "listeners", ())


@pages
def test_fences_markers_and_languages_are_known(path: Path) -> None:
    page = read(path)
    unknown = [
        f"{block.place}: {block.language!r}" for block in page.blocks if block.language not in LANGUAGES
    ]
    assert page.problems + unknown == []


@pages
def test_python_runs_and_prints_what_the_page_shows(path: Path) -> None:
    page = read(path)
    with PageRunner(path) as runner:
        for block, shown in _with_output(page):
            if block.runs and block.file is None:
                printed = runner.run(block)
                shown = printed_by(block) if shown is None else shown
                if as_pattern(shown).fullmatch(printed) is None:
                    assert printed == shown, block.place
            else:
                compile(block.text, block.place, "exec")


def _with_output(page: Page) -> Iterator[tuple[Block, str | None]]:
    """The page's Python, each block with the ``output`` block that follows it, if one does."""
    for block, after in pairwise([*page.blocks, None]):
        if block is not None and block.language == "python":
            yield block, after.text if after is not None and after.language == "output" else None


@pages
def test_output_stands_below_what_prints_it(path: Path) -> None:
    lost = [
        block.place
        for before, block in pairwise([None, *read(path).blocks])
        if block is not None and block.language == "output" and not (before and _runs(before))
    ]
    assert lost == []


@pages
def test_settings_and_json_can_be_read(path: Path) -> None:
    for block in read(path).blocks:
        if block.language == "json":
            json.loads(block.text)
        elif block.language == "env":
            _must_be_settings(block)


def _must_be_settings(block: Block) -> None:
    pairs = [
        line.partition("=") for line in block.text.splitlines() if line.strip() and not line.startswith("#")
    ]
    environ = {name: value for name, _, value in pairs}
    known = {name for name in environ if is_setting(name)}
    assert known == set(environ), block.place
    load(environ)


def test_tutorials_and_how_tos_are_not_without_code() -> None:
    taught = [path for path in PAGES if {"tutorial", "how-to"} & set(path.parts)]
    assert len(taught) >= 12
    assert [page_id(path) for path in taught if not any(_runs(block) for block in read(path).blocks)] == []


def _runs(block: Block) -> bool:
    return block.runs and block.language == "python"
