"""Waiting, with a bound, for something that happens on another thread or in another process."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """Wait until the condition holds. Raises TimeoutError after `within` seconds of the loop's time."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)
