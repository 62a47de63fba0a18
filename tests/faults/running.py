"""Runs the cells of one service, one after the other, on one stage; a module of tests for each service uses it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.faults.cell import Seen, play
from tests.faults.checking import differences
from tests.faults.expected import EXPECTED
from tests.faults.faults import FAULTS
from tests.faults.lateness import Lateness
from tests.faults.rows import keep
from tests.faults.scene import Scene
from tests.faults.scenes import on_stage

__all__ = ["ALL_FAULTS", "QUICK", "check", "played", "staged"]

QUICK: Final = {"appendfsync": "no"}
"""Nobody waits for a disk here, which may be busy. What a killed Redis has written is there without that too."""
LATE: Final = 0.1
"""Seconds. Services are known to hang by some tenths, and a server that is late itself believes none of it."""
_AT_MOST: Final = 4

ALL_FAULTS = pytest.mark.parametrize("fault", list(FAULTS))


def staged(service: str, factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """For a fixture: the scene of the service, for all tests of a module."""
    with on_stage(service, factory.mktemp("stage"), **QUICK) as scene:
        yield scene


async def check(scene: Scene, fault: str, folder: Path) -> None:
    """Play the cell, and compare it with what is expected."""
    seen, found = await played(scene, fault, folder)
    assert not found, f"{'; '.join(found)}\n{seen}"
    keep(scene.service, fault, seen)


async def played(scene: Scene, fault: str, folder: Path, *, on_wire: bool = True) -> tuple[Seen, list[str]]:
    """What was seen, and what of it is not as expected. Of a play in which this process was late nothing is believed:
    the cell is played again. ``on_wire``: requests can be counted.
    """
    for _ in range(_AT_MOST):
        async with Lateness() as late:
            seen = await play(scene, FAULTS[fault], folder)
        judged = seen if on_wire else replace(seen, requests=seen.attempts)
        found = differences(judged, EXPECTED[scene.service][fault], flapping=fault == "flapping")
        if not found or late.longest < LATE:
            break
        print(f"{late.longest:.2f} s late: {found}")  # what is shown where it is in vain
    return seen, found
