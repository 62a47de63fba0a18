"""scripts/components and OpenFGA's own server: with Go and without, whole or not at all."""

from pathlib import Path

import pytest

from tests.support.made_up_machine import ROOT, Machine

_, VERSION, PACKAGE, CHECKSUM = next(
    line.split()
    for line in (ROOT / "scripts" / "components.lock").read_text().splitlines()
    if line.startswith("openfga")
)
FOLDER = f"openfga-{VERSION}"
RIGHT = rf"printf 'mod\t%s\tv%s\t%s\n' {PACKAGE.partition('/cmd/')[0]} {VERSION} {CHECKSUM}"
WHOLE = f"{{ echo '#!/usr/bin/env bash'; echo exit; {RIGHT}; }} >$program; chmod +x $program"
BUILD = 'case "$1" in list) exit 0 ;; env) echo sums; exit ;; esac; program=$GOBIN/openfga'


def _go(machine: Machine, *lines: str) -> None:
    machine.has("go", BUILD, *lines)


def test_without_go_it_cannot_be_had(machine: Machine) -> None:
    assert machine.components("--obtainable", "openfga").stdout == ""


def test_with_go_whose_proxy_does_not_answer_it_cannot_be_had(machine: Machine) -> None:
    machine.has("go", "exit 1")
    assert machine.components("--obtainable", "openfga").stdout == ""


def test_with_go_whose_proxy_answers_it_can_be_had(machine: Machine) -> None:
    machine.has("go", 'test "$1 $2" = "list -m"', f'test "$3" = {PACKAGE.partition("/cmd/")[0]}@v{VERSION}')
    assert machine.components("--obtainable", "openfga").stdout == "openfga\n"


def test_what_is_there_can_be_had_without_go(machine: Machine) -> None:
    _go(machine, WHOLE)
    assert machine.components("openfga").returncode == 0
    (machine.programs / "go").unlink()
    assert machine.components("--obtainable", "openfga").stdout == "openfga\n"
    assert machine.components("--check", "openfga").returncode == 0


def test_without_go_fetching_fails_and_says_what_is_needed(machine: Machine) -> None:
    done = machine.components("openfga")
    assert done.returncode == 1
    assert "there is no Go on this machine" in done.stderr
    assert "to get it: scripts/components openfga, with Go" in done.stdout
    assert machine.left() == []


def test_a_checked_program_gets_its_place(machine: Machine) -> None:
    _go(machine, WHOLE)
    done = machine.components("openfga")
    assert done.returncode == 0, done.stderr
    assert str(machine.cache / FOLDER) in done.stdout
    assert machine.left() == [FOLDER]


@pytest.mark.parametrize(
    "line",
    [
        "echo half >$program; chmod +x $program; exit 1",
        "echo 'another program' >$program; chmod +x $program",
        WHOLE.replace(CHECKSUM, "h1:another"),
        RIGHT + " >$program",
        "exit 0",
    ],
    ids=["the build fails", "another program", "another checksum", "not executable", "nothing"],
)
def test_what_is_not_right_leaves_nothing(machine: Machine, line: str) -> None:
    _go(machine, line)
    assert machine.components("openfga").returncode == 1
    assert machine.left() == []


def test_nothing_is_fetched_past_the_checksum_database(machine: Machine) -> None:
    machine.has("go", 'test "$1" = env', "echo off")
    done = machine.components("openfga")
    assert done.returncode == 1
    assert "GOSUMDB is off" in done.stderr
    assert machine.left() == []


def test_private_modules_are_checked_too(machine: Machine) -> None:
    machine.environment = {"GOPRIVATE": "*", "GONOSUMDB": "*", "GOINSECURE": "*"}
    seen = machine.programs.parent / "seen"
    _go(machine, f'echo "[$GOPRIVATE$GONOSUMDB$GOINSECURE]" >{seen}')
    machine.components("openfga")
    assert seen.read_text() == "[]\n"


def test_what_is_broken_is_replaced(machine: Machine) -> None:
    broken = machine.cache / FOLDER
    broken.mkdir(parents=True)
    (broken / "openfga").write_text("half of it")
    assert machine.components("--check", "openfga").returncode == 1
    _go(machine, WHOLE)
    assert machine.components("openfga").returncode == 0
    assert machine.left() == [FOLDER]


def test_what_cannot_be_run_is_not_there(machine: Machine) -> None:
    _go(machine, WHOLE)
    machine.components("openfga")
    (machine.cache / FOLDER / "openfga").chmod(0o644)
    assert machine.components("--check", "openfga").returncode == 1


def test_what_is_there_is_not_fetched_again(machine: Machine) -> None:
    _go(machine, WHOLE)
    machine.components("openfga")
    machine.has("go", "exit 1")
    assert machine.components("openfga").returncode == 0


def test_a_name_that_it_does_not_know_is_refused(machine: Machine) -> None:
    done = machine.components("openfgaa")
    assert done.returncode == 1
    assert "no such component or option: openfgaa" in done.stderr


def test_the_cache_is_in_the_user_s_own_unless_told_otherwise(machine: Machine, tmp_path: Path) -> None:
    _go(machine, WHOLE)
    machine.environment = {"COMPONENTS_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    machine.components("openfga")
    assert (tmp_path / "xdg" / "mcp-server-langgraph" / "components" / FOLDER / "openfga").is_file()
