"""The page of the matrix says what the last kept run found, and that is what the matrix expects."""

from __future__ import annotations

import pytest

from tests.faults.checking import differences
from tests.faults.expected import EXPECTED
from tests.faults.faults import FAULTS
from tests.faults.page import FIGURE, PAGE, page, picture
from tests.faults.rows import kept
from tests.faults.scenes import SCENES

ANEW = "keep a run and write it anew: see tests/faults/rows.py"


def test_every_service_is_tried_with_every_fault() -> None:
    assert EXPECTED.keys() == SCENES.keys()
    assert all(cells.keys() == FAULTS.keys() for cells in EXPECTED.values())


@pytest.mark.parametrize("service", EXPECTED)
def test_what_was_kept_of_a_run_is_what_the_matrix_expects(service: str) -> None:
    for fault, cell in EXPECTED[service].items():
        seen = kept()[f"{service}: {fault}"]
        assert not differences(seen, cell, flapping=fault == "flapping"), ANEW


def test_the_page_is_made_of_what_was_kept() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), ANEW


def test_the_picture_is_made_of_the_matrix() -> None:
    assert FIGURE.read_text(encoding="utf-8") == picture(), ANEW
