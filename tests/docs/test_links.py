"""Every link inside the repository leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, page_id, read

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_somewhere(path: Path) -> None:
    assert list(_broken(path)) == []


def _broken(path: Path) -> Iterator[str]:
    for target in _LINK.findall("\n".join(read(path).prose)):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (anchor and anchor not in _anchors(page)):
            yield target


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    heads = [line.lstrip("#").strip() for line in read(page).prose if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_can_be_reached_from_the_index() -> None:
    index = next(path for path in PAGES if page_id(path) == "docs/index.md")
    linked = {(index.parent / target).resolve() for target in _LINK.findall("\n".join(read(index).prose))}
    lost = [page_id(path) for path in PAGES if index.parent in path.parents and path not in {index, *linked}]
    assert lost == []
