"""tenacity's own tests pass with our ``AsyncRetrying`` in the place of tenacity's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import mcp_server_langgraph
from tests.support.components import require
from tests.support.tenacity_suite import TENACITY

# How many tests there are, by version. Another version needs a run by hand, and its line here.
TESTS: Final = {"9.1.4": 126, "9.2.1": 185}

# Names of tests that fail because the drop-in goes another way on purpose.
DEVIATIONS: Final[set[str]] = set()

# One of them asks for less than 1.1 ms where a wait would take a second: here it has half a second.
RUN: Final = """
import sys
import time
import pytest
import tenacity
from mcp_server_langgraph.resilience.integrations.tenacity import AsyncRetrying, install
install()


class InHalfSeconds:
    def pytest_collection_modifyitems(self, items):
        [asked] = {item.module for item in items if item.module.__name__.endswith("test_asyncio")}
        asked.current_time_ms = lambda: time.monotonic() * 2


status = pytest.main(sys.argv[1:], plugins=[InHalfSeconds()])
assert tenacity.AsyncRetrying is tenacity.asyncio.AsyncRetrying is AsyncRetrying
sys.exit(status)
"""


def test_tenacitys_own_suite_passes_with_the_drop_in_in_its_place(tmp_path: Path) -> None:
    folder = Path(require("tenacity-suite"))
    results = tmp_path / "results.xml"
    source = Path(mcp_server_langgraph.__path__[0]).parent
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    run = subprocess.run(
        [folder / "env" / "bin" / "python", "-c", RUN, "-q", "tests", f"--junitxml={results}"],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert results.exists(), run.stdout + run.stderr
    cases = ElementTree.parse(results).getroot().findall(".//testcase")
    names = set(map(_name, cases))
    failed = {_name(case) for case in cases if _failed(case)}
    assert len(names) == TESTS[TENACITY]
    assert failed == DEVIATIONS, run.stdout


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _failed(case: ElementTree.Element) -> bool:
    return any(child.tag in ("failure", "error", "skipped") for child in case)
