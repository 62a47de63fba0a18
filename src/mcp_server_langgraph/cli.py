"""The command ``mcp-server-langgraph``: serve, show the settings in force, examine the clients of the server, or report
its service level.

Exit codes: 0 ended in good order, 1 the doctor found something wrong or a target was missed, 2 wrong settings, wrong
arguments or a missing extra, 3 the service level cannot be told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mcp_server_langgraph.resilience.config import Settings as ResilienceSettings
    from mcp_server_langgraph.settings import Settings

__all__ = ["main"]

_NEEDED = (
    "langchain_core",
    "langgraph",
    "mcp",
    "prometheus_client",
    "pydantic_settings",
    "starlette",
    "uvicorn",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and give back its exit code."""
    options = _parser().parse_args(arguments)
    missing = [package for package in _NEEDED if find_spec(package) is None]
    if missing:
        print(
            f"mcp-server-langgraph: the server needs {', '.join(missing)}, which the extra 'server' brings: "
            "pip install 'mcp-server-langgraph[server]'",
            file=sys.stderr,
        )
        return 2
    from mcp_server_langgraph.resilience.errors import SettingsError

    try:
        return _COMMANDS[options.command](options)
    except SettingsError as error:
        for problem in error.problems:
            print(f"mcp-server-langgraph: {problem}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mcp-server-langgraph", description="An MCP server around a LangGraph agent."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = _add_serve(commands.add_parser("serve", help="run the server"))
    show = commands.add_parser("settings", help="print the settings in force, without secrets")
    doctor = commands.add_parser("doctor", help="find hidden and stacked retries, and missing timeouts")
    doctor.add_argument(
        "objects",
        nargs="*",
        metavar="module:attribute",
        help="what to look at instead of the server's own clients",
    )
    sla = commands.add_parser("sla", help="report the service level; exit code 1 where a target was missed")
    sla.add_argument("--prometheus-url", help="Prometheus that scrapes the servers (PROMETHEUS_URL)")
    sla.add_argument("--selector", help="label matchers of their series (SLA_SELECTOR)")
    sla.add_argument("--hours", type=float, default=24.0, help="how far back")
    sla.add_argument("--format", choices=("text", "json"), default="text")
    for command in (serve, show, doctor, sla):
        command.add_argument(
            "--env-file", type=Path, help="NAME=value lines; the environment wins. Read again on SIGHUP."
        )
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> argparse.ArgumentParser:
    serve.add_argument("--host", help="address to listen on (HOST)")
    serve.add_argument("--port", help="port to listen on (PORT)")
    serve.add_argument("--transport", choices=("http", "stdio"), default="http")
    serve.add_argument(
        "--local-model",
        action="store_true",
        help="let a small model on this machine answer when no other does (extra: local)",
    )
    serve.add_argument(
        "--with-redis",
        action="store_true",
        help="keep conversations in a Redis of its own (extra: redis-server)",
    )
    serve.add_argument(
        "--data-dir",
        type=Path,
        help="where --with-redis keeps its data (~/.local/state/mcp-server-langgraph/redis)",
    )
    return serve


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """The environment, with the file's variables below it and the command line's above it."""
    environ = {**_file_variables(options.env_file), **os.environ}
    if getattr(options, "local_model", False):
        from mcp_server_langgraph.server.companions.local_model import with_local_model

        environ = with_local_model(environ)
    names = {
        "HOST": "host",
        "PORT": "port",
        "REDIS_URL": "redis_url",
        "PROMETHEUS_URL": "prometheus_url",
        "SLA_SELECTOR": "selector",
    }
    given = {variable: getattr(options, name, None) for variable, name in names.items()}
    return {**environ, **{name: value for name, value in given.items() if value is not None}}


def _file_variables(path: Path | None) -> Mapping[str, str]:
    from mcp_server_langgraph.resilience.errors import SettingsError

    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"--env-file {path} cannot be read: {error}"]) from None
    pairs = (line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


def _show(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.settings import load

    settings, resilience = load(_environment(options))
    print(json.dumps({"server": settings.public(), "resilience": resilience.as_dict()}, indent=2))
    return 0


def _examine(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience import config
    from mcp_server_langgraph.resilience.integrations import doctor
    from mcp_server_langgraph.settings import load

    if options.objects:
        return doctor.main(options.objects)
    settings, resilience = load(_environment(options))
    config.install(resilience)
    from mcp_server_langgraph.server.checkup import examined

    report = examined(settings)
    print(report)
    return 0 if report.healthy else 1


def _report(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience import config
    from mcp_server_langgraph.resilience.errors import SettingsError
    from mcp_server_langgraph.settings import load

    settings, resilience = load(_environment(options))
    if settings.prometheus_url is None:
        raise SettingsError(["PROMETHEUS_URL is not set: it is needed for a report, or --prometheus-url"])
    if not 0 < options.hours < float("inf"):
        raise SettingsError([f"--hours must be more than 0, not {options.hours:g}"])
    config.install(resilience)
    from mcp_server_langgraph.server.sla_command import LevelUnknown, level_of, rendered

    try:
        level = level_of(settings.prometheus_url, options.hours * 3600, settings.sla_selector or "")
    except LevelUnknown as error:
        print(f"mcp-server-langgraph: {error}", file=sys.stderr)
        return 3
    print(rendered(level, options.format))
    return 1 if level.missed else 0


def _serve(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience.errors import SettingsError

    if not options.with_redis:
        if options.data_dir is not None:
            raise SettingsError(["--data-dir is where --with-redis keeps its data: it needs --with-redis"])
        return _run(options)
    from mcp_server_langgraph.server.companions.redis import EmbeddedRedis, default_folder

    environ = _environment(options)
    if environ.get("REDIS_URL"):
        raise SettingsError(
            ["--with-redis starts a Redis of its own, and REDIS_URL names another: give one of them"]
        )
    _checked(environ)  # what is wrong in it is told before anything is started
    with EmbeddedRedis(options.data_dir or default_folder(environ)) as redis:
        options.redis_url = redis.url
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience import config

    settings, resilience = _checked(_environment(options))
    config.install(resilience)
    # Imported last: wrong settings are told without waiting for the server's packages.
    from mcp_server_langgraph.server.main import run

    return run(settings, options.transport, lambda: _environment(options))


def _checked(environ: Mapping[str, str]) -> tuple[Settings, ResilienceSettings]:
    """The settings, with all that their models need. Raises SettingsError."""
    from mcp_server_langgraph.llm.packages import missing_for_chain
    from mcp_server_langgraph.resilience.errors import SettingsError
    from mcp_server_langgraph.settings import load

    settings, resilience = load(environ)
    missing = missing_for_chain(settings)
    if missing:
        raise SettingsError(missing)
    return settings, resilience


_COMMANDS: Final = {"doctor": _examine, "serve": _serve, "settings": _show, "sla": _report}

if __name__ == "__main__":
    sys.exit(main())
