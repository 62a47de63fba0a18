"""Streams to guard, and how tests read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any


async def paced(*seconds: float) -> AsyncGenerator[int, None]:
    """Items 0, 1, 2... each after that many seconds."""
    for item, wait in enumerate(seconds):
        if wait:
            await asyncio.sleep(wait)
        yield item


async def collect(stream: AsyncIterator[Any], into: list[Any] | None = None) -> list[Any]:
    """All its items; ``into`` has those that came before an error, too."""
    items = [] if into is None else into
    async for item in stream:
        items.append(item)
    return items


class Scripted:
    """An async generator function. Each call does what its script says: numbers wait, texts are items, errors raise."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = scripts
        self.calls = 0
        self.given: list[dict[str, Any]] = []

    async def __call__(self, **given: Any) -> AsyncGenerator[str, None]:
        script = self.scripts[min(self.calls, len(self.scripts) - 1)]
        self.calls += 1
        self.given.append(given)
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, str):
                yield step
            else:
                await asyncio.sleep(step)
