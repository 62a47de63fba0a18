"""Tables that are made from the code say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, page_id
from tests.docs.reference import PAGES_WITH_TABLES, TABLES, generated_in, updated


@pytest.mark.parametrize("path", PAGES_WITH_TABLES, ids=page_id)
def test_tables_are_those_of_the_code(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == updated(page), "write them anew: python -m tests.docs.reference"


def test_every_table_stands_in_one_page() -> None:
    found = [name for path in PAGES for name in generated_in(path.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(TABLES)


def test_a_table_that_went_stale_is_seen() -> None:
    page = "<!-- generated: services -->\n| old |\n<!-- end -->\n"
    assert "keycloak" in updated(page)
