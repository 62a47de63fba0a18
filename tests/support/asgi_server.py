"""An ASGI application on a real socket, served by uvicorn in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, Literal

import uvicorn

from tests.support.ports import HOST

__all__ = ["serving"]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield  # signals are the test runner's


@contextlib.asynccontextmanager
async def serving(app: Any, lifespan: Literal["off", "on"] = "off") -> AsyncIterator[str]:
    """Serves ``app`` on a free port, and gives its address."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        server = _Server(uvicorn.Config(app, log_config=None, lifespan=lifespan, timeout_graceful_shutdown=5))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
