"""Finding out in the background that a service is back."""

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline

__all__ = ["CircuitCloser", "Recovery"]

_log = logging.getLogger(__name__)

_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


class Recovery:
    """Runs `attempt` until it does not raise, with waits that double from 0.1 s to 5 s (and vary by half).

    The task belongs to nobody: neither the deadline nor the notes of the request that started it reach it.
    """

    def __init__(
        self,
        name: str,
        attempt: Callable[[], Awaitable[None]],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._attempt = attempt
        self._chance = chance
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def running(self) -> bool:
        return self._task is not None

    def start(self) -> bool:
        """Begin, unless it runs already. True if it began."""
        if self._task is not None:
            return False
        self._hurry.clear()
        self._task = asyncio.get_running_loop().create_task(
            self._until_it_works(), name=self._name, context=contextvars.Context()
        )
        return True

    def hurry(self) -> None:
        """Something suggests that it would work now: do not wait for the next turn."""
        self._hurry.set()

    async def stop(self) -> None:
        """End the task, whether it worked or not."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _until_it_works(self) -> None:
        wait = _FIRST_WAIT
        while True:
            # Not `asyncio.wait_for`: in 3.11 it swallows a cancellation that comes together with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait * (1 + self._chance()) / 2):
                    await self._hurry.wait()
            self._hurry.clear()
            try:
                await self._attempt()
            except Exception as error:
                _log.debug("not yet: %s", type(error).__name__)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self._task = None
                return


class CircuitCloser:
    """Closes a pipeline's breaker before its open time is over, when a probe of our own was answered.

    The open time keeps everyone from asking a sick service all the time; one health check every few seconds does no
    such harm. (Envoy does the same: a passed active health check ends an outlier ejection.) A service that passes
    the check and fails the calls is left to the breaker: it is closed early at most once in `interval` seconds.
    """

    def __init__(self, pipeline: Pipeline, *, interval: float = 30.0) -> None:
        self._breaker = next((part for part in pipeline.policies if isinstance(part, CircuitBreaker)), None)
        self._interval = interval
        self._closed_at = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether the breaker refuses calls because of failures (not because an operator forced it open)."""
        return self._breaker is not None and self._breaker.state == "open"

    def close(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._breaker is not None and self.is_open and now - self._closed_at >= self._interval:
            self._closed_at = now
            self._breaker.reset()
