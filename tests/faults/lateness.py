"""How late a loop was: what it was asked to do at a time is done when the machine lets it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final, Self

__all__ = ["Lateness"]

_EVERY: Final = 0.02


class Lateness:
    """Looks at the running loop all the time. ``longest``: seconds that it was late at the worst."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _look(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_EVERY)
            self.longest = max(self.longest, time.monotonic() - began - _EVERY)
