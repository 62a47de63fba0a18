"""The pages of the documentation, cut into blocks.

A block may have a marker on the line above its fence, an HTML comment that readers do not see:

    <!-- test: alone -->                  runs in a namespace of its own, not in the page's
    <!-- test: file weather.py -->        is saved as that file, for a command further down to run
    <!-- test: append weather.py -->      is added to that file
    <!-- test: not run: the reason -->    is only compiled (Python), or only looked at (commands)

and a page may say on a line of its own how it is tested as a whole:

    <!-- page: session: the reason -->    its commands are run, in order, in one shell
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["PAGES", "ROOT", "Block", "Page", "page_id", "read"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

MARKERS: Final = re.compile(r"alone|(?:file|append) [\w./-]+|not run: \S.*")
PAGE_MARKERS: Final = re.compile(r"session: \S.*")

Lines = Iterator[tuple[int, str]]

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+|~~~+) *(?P<info>.*)")
_MARKER = re.compile(r"\s*<!-- (?P<scope>test|page): (?P<text>.*?) -->\s*")


@dataclass(frozen=True)
class Block:
    """Code in a page. ``line``: where its first line of text stands, from 1."""

    path: Path
    line: int
    language: str
    text: str
    marker: str = ""

    @property
    def place(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> tuple[str, bool] | None:
        """The file that it is saved as, and whether it is added to its end; None for others."""
        word, _, name = self.marker.partition(" ")
        return (name, word == "append") if word in ("file", "append") else None

    @property
    def runs(self) -> bool:
        """Whether nothing says that it is not run."""
        return not self.marker.startswith("not run")


@dataclass
class Page:
    """A page: its blocks, its text without them, and what is wrong with its fences and markers."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_session(self) -> bool:
        """Whether its commands are run."""
        return any(marker.startswith("session") for marker in self.markers)


def page_id(path: Path) -> str:
    """The page's name in a test's id."""
    return path.relative_to(ROOT).as_posix()


@cache
def read(path: Path) -> Page:
    """Cut a page into blocks and prose."""
    page = Page(path)
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    pending: str | None = None
    for number, line in lines:
        marker = _MARKER.fullmatch(line)
        fence = _FENCE.match(line)
        if pending is not None and fence is None and line.strip():
            page.problems.append(f"{page_id(path)}:{number}: the marker {pending!r} is not above a block")
            pending = None
        if marker is not None:
            pending = _take_marker(page, number, marker)
        elif fence is not None:
            _take_block(page, number, fence, lines, pending or "")
            pending = None
        else:
            page.prose.append(line)
    return page


def _take_marker(page: Page, number: int, marker: re.Match[str]) -> str | None:
    text, of_page = marker["text"], marker["scope"] == "page"
    if not (PAGE_MARKERS if of_page else MARKERS).fullmatch(text):
        page.problems.append(f"{page_id(page.path)}:{number}: unknown marker, or no reason given: {text!r}")
    if of_page:
        page.markers.append(text)
        return None
    return text


def _take_block(page: Page, number: int, fence: re.Match[str], lines: Lines, marker: str) -> None:
    indent = len(fence["indent"])
    body: list[str] = []
    for _, line in lines:
        if line.strip() == fence["ticks"]:
            break
        body.append(line[indent:])
    else:
        page.problems.append(f"{page_id(page.path)}:{number}: this fence is never closed")
    page.blocks.append(Block(page.path, number + 1, fence["info"].strip(), "\n".join(body) + "\n", marker))
