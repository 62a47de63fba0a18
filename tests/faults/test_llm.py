"""The first of two models fails in twelve ways; the row of the matrix is in `expected`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.running import ALL_FAULTS, check, staged
from tests.faults.scene import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    yield from staged("llm", tmp_path_factory)


@ALL_FAULTS
@pytest.mark.real_time(limit=400.0)
async def test_callers_get_what_the_matrix_says(scene: Scene, tmp_path: Path, fault: str) -> None:
    await check(scene, fault, tmp_path)
