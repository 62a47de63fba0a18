"""The table of features: every row is there once, and each of our cells leads to a test or gives a reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "features.md"
# How many rows each table of the survey has.
SURVEY: Final = {
    "A": 18,
    "B": 14,
    "C": 7,
    "D": 9,
    "E": 7,
    "F": 5,
    "G": 7,
    "H": 6,
    "I": 8,
    "J": 7,
    "K": 5,
    "L": 4,
}
HEAD: Final = [
    "feature",
    "ours",
    "Polly v8",
    "resilience4j",
    "failsafe-go",
    "nopanic",
    "pybreaker",
    "tenacity",
]
REASON: Final = 20  # characters, at the least

_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<file>[^)\s]+) \"(?P<test>[^\"]*)\"\)")
_ID = re.compile(r"[A-L]\d+")


class Row(NamedTuple):
    """A row: its number, our cell, and those of the others."""

    number: str
    ours: str
    others: list[str]


def section(title: str) -> str:
    """The text below a heading."""
    return PAGE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def rows() -> list[Row]:
    return [Row(cells[0].split()[0], cells[1], cells[2:]) for cells in lines() if _ID.match(cells[0])]


def lines() -> Iterator[list[str]]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def problem(cell: str) -> str | None:
    """What is wrong with one of our cells; None where nothing is."""
    for refusal in ("no: ", "not yet: "):
        if cell.startswith(refusal):
            return None if len(cell) - len(refusal) >= REASON else "no reason"
    links = list(_LINK.finditer(cell))
    if not links or not re.match(r"\[(yes|partly)\b", cell):
        return "neither a test nor a reason"
    if cell.startswith("[partly") and len(_LINK.sub("", cell)) < REASON:
        return "does not say what is missing"
    if cell.count("](") != len(links):
        return "a link without the name of a test"
    return next((broken for link in links if (broken := broken_link(link))), None)


def broken_link(link: re.Match[str]) -> str | None:
    path = (PAGE.parent / link["file"]).resolve()
    if not path.is_file():
        return f"no file {link['file']}"
    if link["test"] not in functions_of(path):
        return f"no test {link['test']!r} in {link['file']}"
    return None


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The functions of a file that pytest runs."""
    functions = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(
        function.name
        for function in functions
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and function.name.startswith("test_")
    )


def test_every_row_of_the_survey_is_there_once() -> None:
    apart = [
        line[2:].split()[0]
        for line in section("Rows that do not apply inside a process").splitlines()
        if line.startswith("- ")
    ]
    expected = [f"{letter}{number}" for letter, count in SURVEY.items() for number in range(1, count + 1)]
    named = [row.number for row in rows()]
    assert sorted([*named, *apart]) == sorted(expected)
    assert named == [number for number in expected if number not in apart]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.number)
def test_each_of_our_cells_leads_to_a_test_or_gives_a_reason(row: Row) -> None:
    assert problem(row.ours) is None


def test_the_tables_have_all_columns_filled() -> None:
    heads = [cells for cells in lines() if cells[0] == "feature"]
    assert heads == [HEAD] * len(SURVEY)
    for row in rows():
        assert len(row.others) == len(HEAD) - 2, row.number
        assert all(re.match(r"[YP](?= |$)|-(?= |$)|\?\[\^\w+\]$", cell) for cell in row.others), row.number


def test_what_none_of_them_has_nobody_has() -> None:
    by_number = {row.number: row for row in rows()}
    for number in _ID.findall(_LINK.sub("", section("What none of them has"))):
        assert [cell for cell in by_number[number].others if cell.startswith("Y")] == [], number
        assert by_number[number].ours.startswith("[yes"), number


def test_the_other_links_to_tests_lead_somewhere_too() -> None:
    links = list(_LINK.finditer(re.sub(r"\s*\n\s*", " ", section("What none of them has"))))
    assert len(links) >= 5
    assert [broken for link in links if (broken := broken_link(link))] == []


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("yes", "neither"),
        ("no", "neither"),
        ("no: too short", "no reason"),
        ("not yet: soon", "no reason"),
        ("[yes](../../tests/docs/test_features.py)", "neither"),
        ('[yes](../../tests/docs/missing.py "test_x")', "no file"),
        ('[yes](../../tests/docs/test_features.py "test_x")', "no test"),
        ('[yes](../../tests/docs/test_features.py "problem")', "no test"),
        ('[partly](../../tests/docs/test_links.py "test_links_lead_somewhere")', "does not say"),
    ],
)
def test_a_cell_that_shows_nothing_is_found(cell: str, wrong: str) -> None:
    assert wrong in (problem(cell) or "")
