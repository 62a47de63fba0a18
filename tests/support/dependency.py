"""A dependency that does as it is told, for the tests of retries."""

from __future__ import annotations

from mcp_server_langgraph.resilience.testing import Scripted
from mcp_server_langgraph.resilience.testing import StatusError as HTTPError

__all__ = ["Dependency", "HTTPError", "down"]


class Dependency(Scripted):
    """Fails as told, once per error, then answers; notes when and with which key it was asked."""

    @property
    def times(self) -> list[float]:
        """When it was asked."""
        return [asked.at for asked in self.asked]

    @property
    def keys(self) -> list[str | None]:
        """With which key it was asked."""
        return [asked.kwargs.get("key") for asked in self.asked]


def down(count: int = 99) -> list[BaseException]:
    """``count`` connection errors, numbered from 1."""
    return [ConnectionError(number) for number in range(1, count + 1)]
