"""Every command line in the documentation names things that exist; those of the tutorials are run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.commands import commands_of, problem_of
from tests.docs.pages import PAGES, Block, page_id, read
from tests.docs.session import Session
from tests.docs.settings_names import is_setting
from tests.docs.shown import as_pattern
from tests.server.running import UNHURRIED
from tests.support.components import require

SESSIONS = [path for path in PAGES if read(path).is_session]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_commands_name_what_exists(path: Path) -> None:
    commands = [
        command
        for block in read(path).blocks
        if block.language == "console"
        for command in commands_of(block)
    ]
    problems = {command.place: problem_of(command) for command in commands}
    assert {place: problem for place, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("path", SESSIONS, ids=page_id)
def test_what_a_tutorial_says_happens(path: Path, tmp_path: Path) -> None:
    if "valkey-server" in path.read_text(encoding="utf-8"):
        require("valkey")
    environ = {name: value for name, value in os.environ.items() if not is_setting(name)}
    with Session(tmp_path, environ | UNHURRIED) as session:
        for block in read(path).blocks:
            _follow(session, block)


def _follow(session: Session, block: Block) -> None:
    if block.file is not None:
        name, append = block.file
        session.save(name, block.text, append=append)
    elif block.language == "console" and block.runs:
        for command in commands_of(block):
            printed = session.run(command.line)
            matches = as_pattern(command.output).fullmatch(printed)
            assert matches, (
                f"{command.place}: {command.line}\nprints\n{printed}\nbut the page shows\n{command.output}"
            )


def test_tutorials_are_followed_and_files_are_saved_only_where_something_reads_them() -> None:
    tutorials = {path for path in PAGES if path.parent.name == "tutorial"}
    with_files = {path for path in PAGES if any(block.file for block in read(path).blocks)}
    assert len(tutorials) == 2
    assert tutorials | with_files == set(SESSIONS)
