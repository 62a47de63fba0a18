"""scripts/components and Keycloak's own server: with Maven and Java and without, whole or not at all."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.support.made_up_machine import ROOT, Machine

JAVA_17 = """echo 'openjdk version "17.0.15" 2025-04-15' >&2"""
JAVA_11 = """echo 'openjdk version "11.0.2" 2019-01-15' >&2"""


def _archive(folder: Path, script: str) -> Path:
    """What the fake Maven delivers: a distribution whose kc.sh runs `script`."""
    top = folder / "keycloak-x"
    (top / "bin").mkdir(parents=True)
    program = top / "bin" / "kc.sh"
    program.write_text(f"#!/usr/bin/env bash\n{script}\n")
    program.chmod(0o755)
    path = folder / "keycloak.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(top, "keycloak-x")
    return path


def _maven(machine: Machine, archive: Path) -> None:
    find = 'for word in "$@"; do case $word in -DoutputDirectory=*) folder=${word#*=} ;; esac; done'
    machine.has("mvn", find, f'test -z "$folder" || {{ mkdir -p "$folder"; cp {archive} "$folder"; }}')


def _checkout(folder: Path, archive: Path) -> Path:
    """The scripts, with a lock that names this archive."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    lock = folder / "scripts" / "components.lock"
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("keycloak")]
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    lock.write_text("\n".join([*lines, f"keycloak 1.2 some.group:keycloak:1.2:tar.gz {checksum}"]) + "\n")
    return folder / "scripts" / "components"


@pytest.mark.parametrize("tools", [{}, {"java": JAVA_17}, {"mvn": ""}, {"mvn": "", "java": JAVA_11}])
def test_without_maven_and_a_new_java_it_cannot_be_had(machine: Machine, tools: dict[str, str]) -> None:
    for name, line in tools.items():
        machine.has(name, line)
    assert machine.components("--obtainable", "keycloak").stdout == ""
    assert machine.components("keycloak").returncode == 1
    assert machine.left() == []


@pytest.mark.parametrize(("answer", "obtainable"), [("exit 0", "keycloak\n"), ("exit 1", "")])
def test_maven_is_asked_whether_it_can_be_had(machine: Machine, answer: str, obtainable: str) -> None:
    machine.has("java", JAVA_17)
    machine.has("mvn", answer)
    assert machine.components("--obtainable", "keycloak").stdout == obtainable


def test_the_right_archive_is_unpacked_and_built(machine: Machine, tmp_path: Path) -> None:
    archive = _archive(tmp_path, 'echo "$@" >"${0%/*}/../done"')
    machine.has("java", JAVA_17)
    _maven(machine, archive)
    done = machine.run(_checkout(tmp_path / "checkout", archive), "keycloak")
    assert done.returncode == 0, done.stderr
    assert machine.left() == ["keycloak-1.2"]
    assert (machine.cache / "keycloak-1.2" / "done").read_text().startswith("build --db=dev-file")


def test_another_archive_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.has("java", JAVA_17)
    _maven(machine, _archive(tmp_path, "true"))
    done = machine.components("keycloak")
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    assert machine.left() == []


def test_a_build_that_fails_leaves_nothing(machine: Machine, tmp_path: Path) -> None:
    archive = _archive(tmp_path, "exit 3")
    machine.has("java", JAVA_17)
    _maven(machine, archive)
    assert machine.run(_checkout(tmp_path / "checkout", archive), "keycloak").returncode == 1
    assert machine.left() == []


def test_one_that_is_there_does_not_count_without_java(machine: Machine, tmp_path: Path) -> None:
    archive = _archive(tmp_path, "true")
    machine.has("java", JAVA_17)
    _maven(machine, archive)
    script = _checkout(tmp_path / "checkout", archive)
    machine.run(script, "keycloak")
    assert machine.run(script, "--check", "keycloak").returncode == 0
    (machine.programs / "java").unlink()
    assert machine.run(script, "--check", "keycloak").returncode == 1
