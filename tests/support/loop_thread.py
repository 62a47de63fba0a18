"""An asyncio loop in a thread of its own: test servers live there, untouched by the loop under test.

Its clock stands still while the process does, as that of the tests' loop.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.support.own_time import OwnTime, OwnTimeLoop

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on a private loop and blocks the caller for their result."""

    def __init__(self, name: str) -> None:
        self._clock = OwnTime()
        self._clock.__enter__()
        self._loop = OwnTimeLoop(self._clock)
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], *, within: float = 10.0) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(within)

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._clock.__exit__(None, None, None)

    async def _cancel_all(self) -> None:
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # transports are closed in the turn after
        await self._loop.shutdown_asyncgens()
