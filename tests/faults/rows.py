"""What the last run of the matrix found, kept beside it: the page of the documentation is made of it.

FAULT_ROWS=1 scripts/test tests/faults       # play all cells, and keep what was found
python -m tests.faults.page                  # write docs/reference/faults.md anew
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.faults.cell import Seen

__all__ = ["keep", "kept"]

_FILE: Final = Path(__file__).with_name("rows.json")


def kept() -> dict[str, Seen]:
    """By "service: fault"."""
    found = json.loads(_FILE.read_text()) if _FILE.exists() else {}
    return {name: Seen(**row) for name, row in found.items()}


def keep(service: str, fault: str, seen: Seen) -> None:
    """Add a row, if FAULT_ROWS asks for it; other processes may do so at the same time."""
    if not os.environ.get("FAULT_ROWS"):
        return
    with (Path(tempfile.gettempdir()) / "fault-rows.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {name: asdict(row) for name, row in {**kept(), f"{service}: {fault}": seen}.items()}
        _FILE.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
