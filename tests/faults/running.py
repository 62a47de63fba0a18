"""Runs the cells of one service, one after the other, on one stage; a module of tests for each service uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cell import play
from tests.faults.checking import differences
from tests.faults.expected import EXPECTED
from tests.faults.faults import FAULTS
from tests.faults.rows import keep
from tests.faults.scene import Scene
from tests.faults.scenes import on_stage

__all__ = ["ALL_FAULTS", "check", "staged"]

ALL_FAULTS = pytest.mark.parametrize("fault", list(FAULTS))


def staged(service: str, factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For a fixture: the scene of the service, for all tests of a module."""
    with on_stage(service, factory.mktemp("stage")) as scene:
        yield scene


async def check(scene: Scene, fault: str, folder: Path) -> None:
    """Play the cell, and compare it with what is expected."""
    seen = await play(scene, FAULTS[fault], folder)
    found = differences(seen, EXPECTED[scene.service][fault], flapping=fault == "flapping")
    assert not found, f"{'; '.join(found)}\n{seen}"
    keep(scene.service, fault, seen)
