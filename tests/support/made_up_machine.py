"""A checkout's scripts run on a machine whose tools are made up."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

__all__ = ["ROOT", "Machine"]

ROOT = Path(__file__).parents[2]

# What the scripts need of every system.
_SYSTEM: Final = (
    "awk bash cat chmod cp cut dirname env gzip mkdir mv rm sed sleep tail grep sha256sum tar timeout"
)


@dataclass
class Machine:
    """`programs` is its PATH; `cache` is where scripts/components keeps things."""

    programs: Path
    cache: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def bare(cls, folder: Path) -> Self:
        """One that has no more than the scripts need of every system."""
        machine = cls(folder / "bin", folder / "cache")
        machine.programs.mkdir()
        for name in _SYSTEM.split():
            (machine.programs / name).symlink_to(str(shutil.which(name)))
        return machine

    def has(self, name: str, *lines: str) -> None:
        """Put a program on the PATH that runs these lines of bash."""
        program = self.programs / name
        program.write_text("\n".join(["#!/usr/bin/env bash", "set -e", *lines]) + "\n")
        program.chmod(0o755)

    def run(self, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        home = str(self.programs.parent)
        known = {
            "PATH": str(self.programs),
            "HOME": home,
            "COMPONENTS_DIR": str(self.cache),
            **self.environment,
        }
        return subprocess.run([script, *arguments], env=known, capture_output=True, text=True, timeout=300)

    def components(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(ROOT / "scripts" / "components", *arguments)

    def left(self) -> list[str]:
        """What is in the cache."""
        return sorted(os.listdir(self.cache)) if self.cache.exists() else []
