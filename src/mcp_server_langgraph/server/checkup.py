"""The server's own clients before the doctor: built as for serving, connected to nothing."""

from __future__ import annotations

import asyncio

from mcp_server_langgraph.resilience.integrations.doctor import Report, examine
from mcp_server_langgraph.server.wiring import wire
from mcp_server_langgraph.settings import Settings

__all__ = ["examined"]


def examined(settings: Settings) -> Report:
    """What the doctor says of every client that the server makes with these settings."""
    return asyncio.run(_examined(settings))


async def _examined(settings: Settings) -> Report:
    wired = wire(settings)
    try:
        await wired.services.loader.get()
        return examine(wired)
    finally:
        await wired.services.aclose()
