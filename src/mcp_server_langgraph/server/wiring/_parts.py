"""What the parts of the server leave behind when they are built: what it then depends on, and what it has to close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp_server_langgraph.server.probes import HttpProbes, Probe
from mcp_server_langgraph.server.status import Dependency
from mcp_server_langgraph.settings import Settings

__all__ = ["Parts"]

Closer = Callable[[], Awaitable[None]]


class Parts:
    """The settings, and the notes of those who build from them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dependencies: list[Dependency] = []
        self.starters: list[Callable[[], None]] = []
        self.http_probes = HttpProbes()
        self.closers: list[Closer] = [self.http_probes.aclose]

    def embedded(self, name: str, mode: str, facts: Callable[[], dict[str, Any]] = dict) -> None:
        """``name`` is played by this process itself. ``facts`` tells more of its state."""
        self.dependencies.append(Dependency(name, mode, embedded=True, facts=facts))

    def remote(
        self, name: str, mode: str, fallback: str, probe: Probe, facts: Callable[[], dict[str, Any]] = dict
    ) -> None:
        """``name`` is another process; ``fallback`` stands in for it. ``facts`` tells more of its state."""
        self.dependencies.append(Dependency(name, mode, fallback, probe, facts=facts))
