"""The end of a test run, where it says which components it used."""

from pathlib import Path

import pytest


def test_a_run_says_what_it_used_and_what_it_missed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest('pytest_plugins = ["tests.support.report"]')
    pytester.makepyfile(
        """
        import pytest
        from tests.support import components, uses
        from tests.support.components import Component, require
        from tests.support.uses import note_start

        components.COMPONENTS.clear()
        components.COMPONENTS["a"] = Component(lambda: "/a", "", lambda place: "1.2")
        components.COMPONENTS["b"] = Component(lambda: "/b", "", lambda place: "3.4", "c")
        components.COMPONENTS["c"] = Component(lambda: None, "make c")

        @pytest.mark.parametrize("number", [1, 2])
        def test_one(number):
            require("a")
            note_start("a", 0.5 * number)

        def test_two():
            require("b")

        def test_three():
            require("c")
        """
    )
    done = pytester.runpytest_subprocess("--components-page", "page.md", "-p", "no:cacheprovider")
    done.assert_outcomes(passed=3, skipped=1)
    done.stdout.fnmatch_lines(["a  1.2  the real thing * 2 * 2 times  0.75 s (longest 1.00 s)"])
    done.stdout.fnmatch_lines(["b  3.4  stand-in for c * 1"])
    done.stdout.fnmatch_lines(["c  * missing (make c)  1 not run"])
    assert "| b | 3.4 | stand-in for c | 1 |  |  |" in (pytester.path / "page.md").read_text()
