"""The tables of `cost`: which stacks are driven how."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from . import ours, peers
from ._measure import Case
from ._stacks import Fn, Guarded, Limits, Stack
from .hand_fused import HAND_FUSED
from .hand_fused_five import HAND_FUSED_FIVE

__all__ = ["BARE", "CONCURRENT", "FAIL_FAST", "RETRY", "STACKS", "SUCCESS", "SUSPENDING", "cases"]

SUCCESS: Final = "success"
SUSPENDING: Final = "suspending"
FAIL_FAST: Final = "fail_fast"
RETRY: Final = "retry"
CONCURRENT: Final = "concurrent"

TASKS: Final = 2000
LIMITS: Final = Limits()


def bare(fn: Fn, limits: Limits) -> Guarded:
    return Guarded(fn)


def one_frame(fn: Fn, limits: Limits) -> Guarded:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return Guarded(guarded)


def plain_retry(fn: Fn, limits: Limits) -> Guarded:
    async def guarded() -> Any:
        attempt = 1
        while True:
            try:
                return await fn()
            except ConnectionError:
                if attempt == limits.attempts:
                    raise
            await asyncio.sleep(0)
            attempt += 1

    return Guarded(guarded)


BARE: Final = Stack("bare await", bare)
ONE_FRAME: Final = Stack("one more async frame", one_frame)
STACKS: Final = (
    BARE,
    ONE_FRAME,
    *ours.STACKS,
    HAND_FUSED,
    HAND_FUSED_FIVE,
    *peers.STACKS,
)
_RIVALS: Final = (
    ours.FOUR,
    ours.FIVE,
    HAND_FUSED,
    HAND_FUSED_FIVE,
    peers.NOPANIC,
    peers.PYRESILIENCE,
    peers.NAIVE,
)


async def give() -> int:
    return 1


async def suspend() -> int:
    await asyncio.sleep(0)
    return 1


async def fail() -> None:
    raise ConnectionError


def failing_first() -> Fn:
    """A dependency whose every other call fails, the first one to begin with."""
    failed = False

    async def answer() -> int:
        nonlocal failed
        failed = not failed
        if failed:
            raise ConnectionError
        return 1

    return answer


async def succeed_all(call: Fn, calls: int) -> None:
    for _ in range(calls):
        await call()


async def fail_all(call: Fn, calls: int) -> None:
    for _ in range(calls):
        try:  # noqa: SIM105 (contextlib.suppress would cost more than the call)
            await call()
        except Exception:
            pass


class Crowd:
    """Calls that are all suspended at once, each in a task of its own."""

    def __init__(self, stack: Stack) -> None:
        self.gate: asyncio.Future[None] | None = None
        self.inside = 0
        self.call = stack.build(self.pass_gate, LIMITS._replace(limit=TASKS)).call

    async def pass_gate(self) -> None:
        assert self.gate is not None
        self.inside += 1
        await self.gate

    async def sample(self, calls: int) -> None:
        loop = asyncio.get_running_loop()
        self.gate = loop.create_future()
        self.inside = 0
        tasks: list[asyncio.Task[Any]] = [loop.create_task(_as_coroutine(self.call())) for _ in range(calls)]
        while self.inside < calls:  # noqa: ASYNC110 (an Event would be one more thing that is measured)
            await asyncio.sleep(0)
        self.gate.set_result(None)
        for task in tasks:
            await task


def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return awaitable


async def opened(stack: Stack) -> Fn:
    """A stack whose breaker is open."""
    call = stack.build(fail, LIMITS).call
    await fail_all(call, 2 * LIMITS.fail_max)
    return call


async def cases() -> list[Case]:
    """Every case of every table, ready to be sampled."""
    found = [_case(SUCCESS, stack, give)._replace(before=stack.before) for stack in STACKS]
    found += [_case(SUSPENDING, stack, suspend) for stack in STACKS]
    found.append(Case(FAIL_FAST, "one raise and catch", functools.partial(fail_all, fail)))
    for stack in _RIVALS:
        found.append(Case(FAIL_FAST, stack.name, functools.partial(fail_all, await opened(stack))))
    found.append(Case(FAIL_FAST, ours.TRIED.name, functools.partial(succeed_all, await opened(ours.TRIED))))
    for stack in (Stack("plain loop", plain_retry), *_RIVALS):
        found.append(_case(RETRY, stack, failing_first()))
    for stack in (BARE, ONE_FRAME, peers.TIMEOUT, ours.PARTS[0], ours.CUT, *_RIVALS):
        found.append(Case(CONCURRENT, stack.name, Crowd(stack).sample, TASKS, every=10))
    return found


def _case(table: str, stack: Stack, fn: Callable[[], Awaitable[Any]]) -> Case:
    return Case(table, stack.name, functools.partial(succeed_all, stack.build(fn, LIMITS).call))
