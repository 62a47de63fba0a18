"""A missing program skips a test and says how to get it, or fails it where it is required."""

import pytest

from tests.support import components, uses
from tests.support.components import Component, choose, require


@pytest.fixture(autouse=True)
def one_missing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "USES", {})
    monkeypatch.setattr(components, "COMPONENTS", {"missing": Component(lambda: None, "apt-get install it")})


@pytest.mark.parametrize("wanted", ["", "other", "other,another"])
def test_a_missing_program_skips(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("REQUIRE_COMPONENTS", wanted)
    with pytest.raises(pytest.skip.Exception, match="apt-get install it"):
        require("missing")


@pytest.mark.parametrize("wanted", ["missing", "other, missing"])
def test_a_missing_program_that_is_required_fails(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("REQUIRE_COMPONENTS", wanted)
    with pytest.raises(pytest.fail.Exception, match="REQUIRE_COMPONENTS"):
        require("missing")


@pytest.mark.parametrize(
    ("there", "required", "chosen"),
    [
        ({"own", "other"}, "", "own"),
        ({"other"}, "", "other"),
        ({"other"}, "own", "own"),
        (set(), "", "own"),
    ],
)
def test_a_stand_in_is_chosen_only_where_nothing_else_can_be_had(
    monkeypatch: pytest.MonkeyPatch, there: set[str], required: str, chosen: str
) -> None:
    known = {
        "own": Component(lambda: "/own" if "own" in there else None, ""),
        "other": Component(lambda: "/other" if "other" in there else None, "", stands_in_for="own"),
    }
    monkeypatch.setattr(components, "COMPONENTS", known)
    monkeypatch.setenv("REQUIRE_COMPONENTS", required)
    assert choose("own") == chosen
