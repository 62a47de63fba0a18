"""From settings to a running server."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Literal

from mcp_server_langgraph.resilience import registry
from mcp_server_langgraph.resilience.errors import ConfigurationError, SettingsError
from mcp_server_langgraph.resilience.integrations.opentelemetry import events_on_spans
from mcp_server_langgraph.server import garbage
from mcp_server_langgraph.server.app import build_app
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.logs import configure_logging
from mcp_server_langgraph.server.metrics import ServerMetrics
from mcp_server_langgraph.server.protocol import build_server
from mcp_server_langgraph.server.transports import serve_http, serve_stdio
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import Settings, load

__all__ = ["loop_factory", "run"]

logger = logging.getLogger(__name__)

Transport = Literal["http", "stdio"]


def run(settings: Settings, transport: Transport, environment: Callable[[], Mapping[str, str]]) -> int:
    """Serve until told to stop; the exit code. ``environment`` gives the variables to read again on SIGHUP."""
    configure_logging(settings.log_level, settings.log_format)
    events_on_spans()  # on those that the MCP SDK makes of each request, where somebody collects them
    if transport == "http" and settings.keycloak_url is None and not _is_loopback(settings.host):
        logger.warning(
            "listening beyond loopback with the local development identity: every caller is the same user"
        )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(settings, transport, environment))
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed; None: asyncio's own."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(
    settings: Settings, transport: Transport, environment: Callable[[], Mapping[str, str]]
) -> None:
    wired = wire(settings)
    wired.services.loader.loaded = garbage.settle
    lifecycle, metrics = Lifecycle(), ServerMetrics()
    server = await build_server(wired.services, lifecycle, metrics)

    def reload() -> None:
        _reload(environment)

    if transport == "stdio":
        await serve_stdio(server, wired.services, lifecycle, reload)
    else:
        app = build_app(server, wired.services, lifecycle, metrics, wired.token_check)
        await serve_http(app, settings, lifecycle, reload)


def _reload(environment: Callable[[], Mapping[str, str]]) -> None:
    """Apply the resilience settings anew. Wrong ones are reported, and those in force stay."""
    try:
        variables = environment()
        load(variables)
        registry.reload(variables)
    except ConfigurationError as error:
        problems = error.problems if isinstance(error, SettingsError) else (str(error),)
        logger.error("settings not reloaded", extra={"fields": {"problems": list(problems)}})
    else:
        logger.info("settings reloaded")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
