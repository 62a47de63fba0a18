"""Serving: streamable HTTP under uvicorn, or one client over stdin and stdout; and stopping in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp

from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.services import Services
from mcp_server_langgraph.settings import Settings

__all__ = ["serve_http", "serve_stdio"]

logger = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 5
"""What responses get to reach their clients once no call is in flight any more."""

_LAST_WORDS_SECONDS: Final = 0.2
"""The SDK has no hook that tells when the last answer has left through stdout."""


async def serve_http(
    app: ASGIApp, settings: Settings, lifecycle: Lifecycle, reload: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once. ``reload`` is called on SIGHUP."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )
    server = _Server(config, lifecycle, settings.drain_seconds)
    _on_hangup(reload)
    await server.serve()


class _Server(uvicorn.Server):
    """uvicorn that drains before it closes its socket, so that health checks see it draining."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        ports = [listener.getsockname()[1] for server in self.servers for listener in server.sockets]
        logger.info(
            "listening", extra={"fields": {"host": self.config.host, "port": ports[0] if ports else None}}
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signal is not passed on after serving, as uvicorn would: a drained server ends with code 0.
        if self._lifecycle.draining or self._loop is None:
            self.should_exit = self.force_exit = True
        else:
            self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        await _drain(self._lifecycle, self._drain_seconds)
        self.should_exit = True


async def serve_stdio(
    server: MCPServer[Any], services: Services, lifecycle: Lifecycle, reload: Callable[[], None]
) -> None:
    """Serve one client until it closes stdin, or until SIGTERM or SIGINT and the drain that follows."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stopping.set)
    _on_hangup(reload)
    services.start()
    serving = asyncio.create_task(server.run_stdio_async(), name="stdio")
    signalled = asyncio.create_task(stopping.wait(), name="signal")
    await asyncio.wait({serving, signalled}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        signalled.cancel()
        await services.aclose()
        return serving.result()
    await _drain(lifecycle, services.settings.drain_seconds)
    await services.aclose()
    await asyncio.sleep(_LAST_WORDS_SECONDS)
    # A thread is blocked in a read of stdin that nothing can interrupt; waiting for it would be waiting for the client.
    sys.stderr.flush()
    os._exit(0)


async def _drain(lifecycle: Lifecycle, seconds: float) -> None:
    logger.info("draining", extra={"fields": {"calls_in_flight": lifecycle.in_flight, "seconds": seconds}})
    finished = await lifecycle.drain(seconds)
    logger.info("drained", extra={"fields": {"finished": finished}})


def _on_hangup(reload: Callable[[], None]) -> None:
    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
