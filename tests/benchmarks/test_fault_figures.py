"""The figures that were recorded are of the whole matrix, and nobody waits but for a language model."""

from __future__ import annotations

import pytest

from benchmarks._fault_load import Measured
from benchmarks.faults import CELLS, RESULTS, TARGET, measured, page
from tests.faults.scenes import SCENES

HANGING = ("black hole", "SIGSTOP", "slow")
WAITING = {("llm, no other", fault) for fault in (*HANGING, "429")}
"""A model that hangs is known by its time only; one that asks for a pause is waited for where there is no other."""


def test_every_cell_was_measured_with_all_its_calls() -> None:
    rows = measured()
    assert [(row.service, row.fault) for row in rows] == [(name, cell) for name in SCENES for cell in CELLS]
    assert {row.calls for row in rows} == {600}
    assert all(row.whole + row.degraded + row.errors == row.calls for row in rows)


@pytest.mark.parametrize("row", measured(), ids=lambda row: f"{row.service}: {row.fault}")
def test_callers_wait_for_models_only(row: Measured) -> None:
    assert row.p95 < TARGET or (row.service, row.fault) in WAITING


def test_the_tables_are_made_of_these_figures() -> None:
    written = (RESULTS / "faults.md").read_text(encoding="utf-8")
    assert _tables(written) == _tables(page(""))


def _tables(text: str) -> str:
    return text.partition("\n## ")[2]
