"""The pages of policies all have the same headings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, page_id

FOLDER = ROOT / "docs" / "reference" / "policies"
PAGES = sorted(FOLDER.glob("*.md"))
HEADINGS = [
    "What it protects against",
    "Defaults",
    "Events and metrics",
    "States",
    "Patterns",
    "Anti-patterns",
    "Where it stands by default",
    "Source",
]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_page_has_the_headings_of_all(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS
