"""The command ``mcp-server-langgraph``: serve, show the settings in force, or examine the clients of the server.

Exit codes: 0 ended in good order, 1 the doctor found something wrong, 2 wrong settings, wrong arguments or a missing
extra.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

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
        return {"doctor": _examine, "serve": _serve, "settings": _show}[options.command](options)
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
    for command in (serve, show, doctor):
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
    given = {name: getattr(options, name.lower(), None) for name in ("HOST", "PORT", "REDIS_URL")}
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


def _serve(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience.errors import SettingsError

    if not options.with_redis:
        if options.data_dir is not None:
            raise SettingsError(["--data-dir is where --with-redis keeps its data: it needs --with-redis"])
        return _run(options)
    from mcp_server_langgraph.server.companions.redis import EmbeddedRedis, default_folder
    from mcp_server_langgraph.settings import load

    environ = _environment(options)
    if environ.get("REDIS_URL"):
        raise SettingsError(
            ["--with-redis starts a Redis of its own, and REDIS_URL names another: give one of them"]
        )
    load(environ)  # what is wrong in it is told before anything is started
    with EmbeddedRedis(options.data_dir or default_folder(environ)) as redis:
        options.redis_url = redis.url
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    from mcp_server_langgraph.resilience import config
    from mcp_server_langgraph.settings import load

    settings, resilience = load(_environment(options))
    config.install(resilience)
    # Imported last: wrong settings are told without waiting for the server's packages.
    from mcp_server_langgraph.server.main import run

    return run(settings, options.transport, lambda: _environment(options))


if __name__ == "__main__":
    sys.exit(main())
