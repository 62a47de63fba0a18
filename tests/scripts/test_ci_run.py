"""What .ci/run asks of the tests: no stand-in for what this machine can get."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.made_up_machine import ROOT, Machine

DEBIAN = "redis prometheus alertmanager"


class _Checkout:
    """.ci/run beside scripts that only note that they were called."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._machine = machine
        self._folder = folder
        self._calls = folder / "calls"
        (folder / ".ci").mkdir(parents=True)
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
        self.script("check")
        self.script("test")
        self.components(obtainable="")

    def script(self, name: str, line: str = "") -> None:
        program = self._folder / "scripts" / name
        note = f'echo "{name} $* [${{REQUIRE_COMPONENTS:-}}]" >>{self._calls}'
        program.write_text(f"#!/usr/bin/env bash\n{note}\n{line}\n")
        program.chmod(0o755)

    def components(self, obtainable: str, fetched: str = "true") -> None:
        line = f'if [[ $1 == --obtainable ]]; then case " {obtainable} " in *" $2 "*) echo "$2" ;; esac; '
        self.script("components", line + f'elif [[ "$*" != "{DEBIAN}" ]]; then {fetched}; fi')

    def run(self) -> subprocess.CompletedProcess[str]:
        return self._machine.run(self._folder / ".ci" / "run")

    def calls(self, name: str) -> list[str]:
        lines = self._calls.read_text().splitlines()
        return [line.removeprefix(name).strip() for line in lines if line.split()[0] == name]

    def required(self) -> set[str]:
        [call] = self.calls("test")
        return set(call.strip("[]").split(","))


@pytest.fixture
def checkout(machine: Machine, tmp_path: Path) -> _Checkout:
    return _Checkout(machine, tmp_path / "checkout")


def test_what_debian_has_is_installed_and_required(checkout: _Checkout) -> None:
    assert checkout.run().returncode == 0
    assert f"{DEBIAN} []" in checkout.calls("components")
    assert checkout.required() >= {"alertmanager", "prometheus", "promtool", "redis", "valkey"}


@pytest.mark.parametrize("obtainable", ["", "openfga", "keycloak", "openfga keycloak"])
def test_what_go_and_maven_answer_for_is_fetched_and_required(checkout: _Checkout, obtainable: str) -> None:
    checkout.components(obtainable)
    done = checkout.run()
    assert done.returncode == 0
    own = set(obtainable.split())
    assert checkout.required() & {"openfga", "keycloak"} == own
    assert (f"{obtainable} []" in checkout.calls("components")) is bool(own)
    for name in {"openfga", "keycloak"} - own:
        assert f"{name} cannot be had on this machine" in done.stdout


def test_a_server_that_can_be_had_and_was_not_got_fails_the_run(checkout: _Checkout) -> None:
    checkout.components("openfga", fetched="exit 1")
    assert checkout.run().returncode != 0


def test_a_failed_check_fails_the_run_after_the_tests(checkout: _Checkout) -> None:
    checkout.script("check", "exit 7")
    assert checkout.run().returncode == 7
    assert checkout.calls("test")


def test_failed_tests_fail_the_run(checkout: _Checkout) -> None:
    checkout.script("test", "exit 3")
    assert checkout.run().returncode == 3
