"""Faults in which connections die, on the loop that the server runs on: uvloop, where it is installed, tells of them in
its own way. Connections that are refused cannot be counted there, as it connects without an audit event: the other
files of this folder count on asyncio's own loop.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.cell import play
from tests.faults.checking import differences
from tests.faults.expected import EXPECTED
from tests.faults.faults import FAULTS
from tests.faults.scenes import SCENES, on_stage

DYING = ("refused", "kill -9", "reset", "flapping")


@pytest.mark.parametrize("service", SCENES)
@pytest.mark.real_time(limit=180.0, like_the_server=True)
async def test_callers_get_the_same(service: str, tmp_path: Path) -> None:
    found = {}
    with on_stage(service, tmp_path) as scene:
        for fault in DYING:
            seen = await play(scene, FAULTS[fault], tmp_path / fault)
            counted = replace(seen, requests=seen.attempts)
            found[fault] = differences(counted, EXPECTED[service][fault], flapping=fault == "flapping")
    assert not any(found.values()), found
