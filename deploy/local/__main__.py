"""The server with real Redis, Keycloak, OpenFGA and Prometheus on this machine: ``scripts/serve --with-components``."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from deploy.local import components
from deploy.local.programs import REPOSITORY, Missing
from deploy.local.service import HOST, DidNotStart, Service, answers_http
from deploy.openfga.setup import set_up

__all__ = ["main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped by Ctrl-C or SIGTERM, or until the server ends, whatever else does; the exit code."""
    options, rest = parser().parse_known_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    with _folder(options.dir) as folder, ExitStack() as stack:
        try:
            services = _services(folder, options.port)
            for service in services:
                stack.callback(_stop, service)
                service.start()
            _wait(services)
            server = _server(services, folder, options.port, rest)
            stack.callback(_stop, server)
            server.start()
            _wait([server])
            print(_told([*services, server]), flush=True)
            return _watch(services, server)
        except (Missing, DidNotStart) as error:
            print(f"--with-components: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)
            return 0


def parser() -> argparse.ArgumentParser:
    """The options of its own."""
    made = argparse.ArgumentParser(
        prog="scripts/serve --with-components",
        description=__doc__,
        epilog="Other options are those of serve.",
    )
    made.add_argument("--port", type=int, default=8000, help="port of the server (8000)")
    made.add_argument("--dir", type=Path, help="folder for data and logs, kept; a temporary one if not given")
    return made


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory(prefix="mcp-components-") as made:
            yield Path(made)
    else:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()


def _services(folder: Path, port: int) -> list[Service]:
    """All four. Raises Missing, which names all that is missing."""
    makers: list[Callable[[], Service]] = [
        lambda: components.redis(folder),
        lambda: components.openfga(folder),
        lambda: components.keycloak(folder),
        lambda: components.prometheus(folder, port),
    ]
    made, missing = [], []
    for make in makers:
        try:
            made.append(make())
        except Missing as error:
            missing.append(str(error))
    if missing:
        raise Missing("; ".join(missing))
    return made


def _server(services: Sequence[Service], folder: Path, port: int, rest: Sequence[str]) -> Service:
    """The server, told of the others. Its own settings come from our environment, as far as they say nothing else."""
    where = {service.name: service.where for service in services}
    settings = {
        "REDIS_URL": where["redis"],
        "KEYCLOAK_URL": where["keycloak"],
        "KEYCLOAK_REALM": components.REALM,
        "KEYCLOAK_AUDIENCE": components.AUDIENCE,
        "KEYCLOAK_CLIENT_SECRET": components.CLIENT_SECRET,
        "OPENFGA_API_URL": where["openfga"],
        **set_up(where["openfga"]),
        "PROMETHEUS_URL": where["prometheus"],
        "HOST": HOST,
        "PORT": str(port),
    }
    command = [sys.executable, "-m", "mcp_server_langgraph.cli", "serve", *rest]
    url = f"http://{HOST}:{port}"
    environment = {**os.environ, **settings}
    return Service("server", url, command, lambda: answers_http(f"{url}/health/startup"), folder, environment)


def _wait(services: Sequence[Service]) -> None:
    for service in services:
        began = time.monotonic()
        print(f"waiting for {service.name} ...", end=" ", file=sys.stderr, flush=True)
        service.wait_until_ready()
        print(f"{time.monotonic() - began:.1f} s", file=sys.stderr)


def _told(services: Sequence[Service]) -> str:
    """Where everything is, and how to ask."""
    rows = [(service.name, service.where, f"pid {service.pid}", str(service.log)) for service in services]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    where = {service.name: service.where for service in services}
    ask = [sys.executable, str(REPOSITORY / "deploy" / "local" / "ask.py"), where["keycloak"]]
    asked = [*ask, f"{where['server']}/mcp", "alice", "What is 6 * 7?"]
    hint = "Ask as alice, who may chat, or as bob, who may not:"
    return "\n".join(["", *table, "", hint, shlex.join(asked), ""])


def _watch(services: Sequence[Service], server: Service) -> int:
    """Say which service has ended, and go on for as long as the server does: that is what it is for."""
    left = list(services)
    while not server.ended():
        for service in [each for each in left if each.ended()]:
            left.remove(service)
            print(f"{service.name} has ended ({service.log}); the server goes on", file=sys.stderr)
        time.sleep(0.5)
    raise DidNotStart(f"{server.name} ended; {server.log} says why")


def _stop(service: Service) -> None:
    service.stop()


if __name__ == "__main__":
    sys.exit(main())
