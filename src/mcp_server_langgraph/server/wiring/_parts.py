"""What the parts of the server leave behind when they are built: what it then depends on, and what it has to close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from mcp_server_langgraph.server.status import Dependency
from mcp_server_langgraph.settings import Settings

__all__ = ["Parts"]

Closer = Callable[[], Awaitable[None]]


class Parts:
    """The settings, and the notes of those who build from them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dependencies: list[Dependency] = []
        self.closers: list[Closer] = []

    def embedded(self, name: str, mode: str) -> None:
        """``name`` is played by this process itself."""
        self.dependencies.append(Dependency(name, mode, embedded=True))

    def remote(
        self, name: str, mode: str, fallback: str, url: str, facts: Callable[[], dict[str, Any]] = dict
    ) -> None:
        """``name`` is at ``url``; ``fallback`` stands in for it. ``facts`` tells more of its state."""
        parts = urlsplit(url)
        default = {"https": 443, "http": 80, "redis": 6379, "rediss": 6379}.get(parts.scheme, 0)
        address = (parts.hostname, parts.port or default) if parts.hostname else None
        self.dependencies.append(Dependency(name, mode, fallback, address, facts=facts))
