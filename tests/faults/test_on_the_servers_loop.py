"""Faults in which connections die, on the loop that the server runs on: uvloop, where it is installed, tells of them in
its own way. Connections that are refused cannot be counted there, as it connects without an audit event: the other
files of this folder count on asyncio's own loop.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.running import QUICK, played
from tests.faults.scenes import SCENES, on_stage

DYING = ("refused", "kill -9", "reset", "flapping")


@pytest.mark.parametrize("service", SCENES)
@pytest.mark.real_time(limit=800.0, like_the_server=True)
async def test_callers_get_the_same(service: str, tmp_path: Path) -> None:
    found = {}
    with on_stage(service, tmp_path, **QUICK) as scene:
        for fault in DYING:
            _, found[fault] = await played(scene, fault, tmp_path / fault, on_wire=False)
    assert not any(found.values()), found
