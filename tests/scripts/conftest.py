"""A machine for each test."""

from pathlib import Path

import pytest

from tests.support.made_up_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.bare(tmp_path)
