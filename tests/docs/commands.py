"""What the documentation's command lines may say: they are looked at, and in a page that is a session they are run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from deploy.local import __main__ as components
from mcp_server_langgraph import cli
from tests.docs.pages import ROOT, Block
from tests.docs.settings_names import is_setting

__all__ = ["FOREIGN", "Command", "commands_of", "problem_of"]

FOREIGN: Final = {
    "cd": "the shell's own",
    "conformance": "of the MCP project, from npm; a run takes minutes",
    "curl": "a client of everyone's; in a session it is run",
    "docker": "runs deploy/compose.yaml, which tests/deploy looks at",
    "echo": "the shell's own; in a session it is run",
    "export": "the shell's own",
    "git": "fetches the repository; never run here",
    "kill": "signals a process; in a session it is run",
    "mcp-inspector": "of the MCP project, from npm",
    "mkdir": "makes a folder",
    "npm": "installs what is not ours; never run here",
    "pip": "installs from the package index; only the names of our extras are looked at",
    "prometheus": "of Debian; tests/monitoring runs it with these files",
    "promtool": "of Debian; tests/monitoring runs it with these files",
    "rm": "removes what the page has made; in a session it is run",
    "until": "waits, in the shell; in a session it is run",
    "wait": "the shell's own; in a session it is run",
}

_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)")
_SHELL_VARIABLE = re.compile(r"[a-z]+=(?:\$\(.*\)|\S*)")
_EXTRAS = re.compile(r"mcp-server-langgraph\[(?P<extras>[\w,-]+)\]")
_MODULES: Final = {"asyncio", "pytest", "tests.docs.reference"}


@dataclass(frozen=True)
class Command:
    """A command line of a page, and what it prints there."""

    place: str
    line: str
    output: str

    @property
    def parts(self) -> list[list[str]]:
        """The words of each command that the line joins, without comment and redirections."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        parts: list[list[str]] = [[]]
        for word in lexer:
            if word.strip(";&|"):
                parts[-1].append(word)
            else:
                parts.append([])
        return [[word for word in part if not re.match(r"\d?>", word)] for part in parts if part]


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block, each with the lines below it up to the next."""
    found: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        if line.startswith("$ "):
            found.append(Command(f"{block.place.rpartition(':')[0]}:{number}", line[2:], ""))
        elif found:
            last = found[-1]
            found[-1] = Command(last.place, last.line, f"{last.output}{line}\n")
        else:
            found.append(Command(block.place, "", line))
    return found


def problem_of(command: Command) -> str | None:
    """What is wrong with a command line; None where nothing is."""
    if _SHELL_VARIABLE.fullmatch(command.line):
        return None
    parts = command.parts
    if not parts:
        return "no command after the $ (or no $)"
    if parts[0][0] == "until":
        parts = parts[:1]
    return next((problem for part in parts for problem in _problems_of_part(part)), None)


def _problems_of_part(words: list[str]) -> Iterator[str]:
    while words and (assigned := _ASSIGNMENT.fullmatch(words[0])):
        if not is_setting(assigned["name"]):
            yield f"no setting is called {assigned['name']}"
        words = words[1:]
    if words:
        yield from _problems(words[0], words[1:])


def _problems(program: str, arguments: list[str]) -> Iterator[str]:
    if program == "scripts/serve" and arguments[:1] == ["--with-components"]:
        yield from _refusals(components.parser(), arguments[1:])
    elif program == "scripts/serve":
        yield from _problems_of_ours(["serve", *arguments])
    elif program.endswith("mcp-server-langgraph"):
        yield from _problems_of_ours(arguments)
    elif program.startswith("scripts/"):
        if not os.access(ROOT / program, os.X_OK):
            yield f"{program} is not there, or not executable"
    elif program == ".venv/bin/python":
        if arguments[:1] == ["-m"] and arguments[1] not in _MODULES:
            yield f"no such module: {arguments[1]}"
    elif program == "pip":
        yield from _missing_extras(arguments)
    elif program not in FOREIGN and not program.endswith("/valkey-server"):
        yield f"{program} is not in the list of known commands"


def _problems_of_ours(arguments: list[str]) -> Iterator[str]:
    yield from _refusals(cli._parser(), arguments)


def _refusals(parser: argparse.ArgumentParser, arguments: list[str]) -> Iterator[str]:
    parser.exit_on_error = False
    try:
        _, unknown = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit) as error:
        yield f"the parser of {parser.prog} refuses {arguments}: {error}"
    else:
        if unknown:
            yield f"{parser.prog} has no {unknown}"


def _missing_extras(arguments: list[str]) -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in _EXTRAS.finditer(" ".join(arguments)):
        for extra in asked["extras"].split(","):
            if extra not in project["optional-dependencies"]:
                yield f"there is no extra {extra!r}"
