"""One model of the settings' chain, built when it is first asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from langchain_core.language_models import BaseChatModel

from mcp_server_langgraph.resilience.integrations.langchain import Clocks, ModelLink, ModelPolicies
from mcp_server_langgraph.settings import ModelName

__all__ = ["Closable", "LazyLink"]


class Closable(Protocol):
    """What holds connections."""

    async def aclose(self) -> None: ...


class LazyLink(ModelLink):
    """The model ``name``, which metrics and settings call ``service``.

    ``build`` makes it, and gives the client to close with it (it may take seconds, and runs in a thread).
    ``followers``: how many models can be asked after it.
    """

    def __init__(
        self,
        name: ModelName,
        service: str,
        build: Callable[[], tuple[BaseChatModel, Closable | None]],
        policies: ModelPolicies,
        *,
        followers: int,
        idle: float,
    ) -> None:
        super().__init__(str(name), service, None, policies, Clocks(followers, idle), finishes=True)
        self._build = build
        self._lock = threading.Lock()
        self._client: Closable | None = None

    async def ready(self) -> BaseChatModel:
        """The model, built if it is not yet."""
        return await asyncio.to_thread(self.ready_now) if self.model is None else self.model

    def ready_now(self) -> BaseChatModel:
        """The same, blocking the thread."""
        with self._lock:
            if self.model is not None:
                return self.model
            model, self._client = self._build()
            self.model = model
            return model

    async def aclose(self) -> None:
        """Close the connections of the model, if it was ever built."""
        if self._client is not None:
            await self._client.aclose()
