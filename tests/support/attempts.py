"""A dependency whose attempts are scripted one by one, that knows what became of each, and hedges for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from mcp_server_langgraph.resilience import Budget, Hedge, current_hedge


def hedge(delay: float = 1.0, **options: Any) -> Hedge:
    """A hedge that no budget holds back."""
    return Hedge(delay, budget=Budget.unlimited(), **options)


@dataclass
class Attempt:
    """What one attempt does: it takes ``seconds``, then raises ``error`` or gives its own number."""

    seconds: float = 0.0
    error: BaseException | None = None
    cleanup: float = 0.0  # seconds that it takes to end once it was cancelled
    stubborn: bool = False  # it takes no notice of a cancellation


class Attempts:
    """Call it, or iterate over ``items``: the n-th attempt does what the n-th `Attempt` says, further ones the last."""

    def __init__(self, *script: Attempt) -> None:
        self.script = script
        self.begun: list[float] = []
        self.hedges: list[int] = []
        self.ended: dict[int, str] = {}
        self.running = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> int:
        number = len(self.begun)
        plan = self.script[min(number, len(self.script) - 1)]
        self.begun.append(asyncio.get_running_loop().time())
        self.hedges.append(current_hedge())
        self.running += 1
        try:
            await self._work(plan)
            if plan.error is not None:
                raise plan.error
            self.ended[number] = "ok"
            return number
        except asyncio.CancelledError:
            if plan.cleanup:
                await asyncio.sleep(plan.cleanup)
            self.ended[number] = "cancelled"
            raise
        except BaseException as exc:
            self.ended[number] = type(exc).__name__
            raise
        finally:
            self.running -= 1

    async def _work(self, plan: Attempt) -> None:
        if not plan.stubborn:
            await asyncio.sleep(plan.seconds)
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + plan.seconds
        while loop.time() < end:
            try:
                await asyncio.sleep(end - loop.time())
            except asyncio.CancelledError:
                continue

    async def items(self, count: int = 3) -> AsyncGenerator[tuple[int, int], None]:
        """``count`` items; the script says what happens before the first."""
        number = await self()
        self.running += 1
        self.ended[number] = "open"
        try:
            for index in range(count):
                yield number, index
            self.ended[number] = "ok"
        except BaseException as exc:
            self.ended[number] = type(exc).__name__
            raise
        finally:
            self.running -= 1
