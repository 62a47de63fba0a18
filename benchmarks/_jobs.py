"""Checks that a stack does what it claims, before its speed means anything. Runs in virtual time.

Every check raises AssertionError with the stack's name and what it did instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from mcp_server_langgraph.resilience.testing import run

from ._stacks import Job, Limits, Stack

__all__ = ["check", "checks"]

LIMITS: Final = Limits(limit=2, seconds=5.0)


class Dependency:
    """What a stack guards: fails ``failing`` times, or for ever; keeps count of who is inside."""

    def __init__(self, failing: float = 0) -> None:
        self.failing = failing
        self.reached = 0
        self.inside = 0
        self.most_inside = 0

    async def answer(self) -> str:
        self.reached += 1
        if self.reached <= self.failing:
            raise ConnectionError
        return "answer"

    async def answer_slowly(self) -> str:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        await asyncio.sleep(1)
        self.inside -= 1
        return "answer"

    async def hang(self) -> None:
        await asyncio.get_running_loop().create_future()


async def gives_the_result(stack: Stack) -> None:
    dependency = Dependency()
    call = stack.build(dependency.answer, LIMITS).call
    assert [await call() for _ in range(3)] == ["answer"] * 3, stack.name
    assert dependency.reached == 3, stack.name


async def retries(stack: Stack) -> None:
    dependency = Dependency(failing=1)
    assert await stack.build(dependency.answer, LIMITS).call() == "answer", stack.name
    assert dependency.reached == 2, stack.name


async def opens(stack: Stack) -> None:
    dependency = Dependency(failing=float("inf"))
    call = stack.build(dependency.answer, LIMITS).call
    errors = [await error_of(call) for _ in range(3 * LIMITS.fail_max)]
    assert dependency.reached <= LIMITS.fail_max * LIMITS.attempts, (
        f"{stack.name}: {dependency.reached} calls reached"
    )
    assert isinstance(errors[0], ConnectionError), f"{stack.name}: {errors[0]!r}"
    assert not isinstance(errors[-1], ConnectionError), f"{stack.name}: still closed"


async def cuts(stack: Stack) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    error = await error_of(stack.build(Dependency().hang, LIMITS).call)
    assert isinstance(error, TimeoutError), f"{stack.name}: {error!r}"
    longest = LIMITS.seconds * LIMITS.attempts
    assert LIMITS.seconds <= loop.time() - began <= longest, (
        f"{stack.name}: cut after {loop.time() - began} s"
    )


async def limits(stack: Stack) -> None:
    dependency = Dependency()
    call = stack.build(dependency.answer_slowly, LIMITS).call
    results = await asyncio.gather(*(call() for _ in range(2 * LIMITS.limit)))
    assert results == ["answer"] * len(results), stack.name
    assert dependency.most_inside == LIMITS.limit, f"{stack.name}: {dependency.most_inside} at once"


async def counts(stack: Stack) -> None:
    guarded = stack.build(Dependency().answer, LIMITS)
    before = dict(guarded.numbers())
    for _ in range(3):
        await guarded.call()
    grown = {name: value - before.get(name, 0) for name, value in guarded.numbers().items()}
    assert grown.pop("resilience_calls_total", None) == 3, f"{stack.name}: {grown}"
    assert grown.pop("bulkhead_active_operations", 0) == 0, stack.name
    assert all(value == 3 for value in grown.values()), f"{stack.name}: {grown}"


async def inherits(stack: Stack) -> None:
    """The function and a task that it makes see when the call must be over; what is left of it afterwards, not."""
    loop = asyncio.get_running_loop()
    release = loop.create_future()
    seen: list[float | None] = []
    left: list[asyncio.Task[None]] = []

    async def look(after: Awaitable[object]) -> None:
        await after
        seen.append(guarded.deadline())

    async def answer() -> None:
        await look(asyncio.sleep(0))
        await asyncio.create_task(look(asyncio.sleep(0)))
        left.append(asyncio.create_task(look(release)))
        await asyncio.sleep(1)

    guarded = stack.build(answer, LIMITS)
    end = loop.time() + 2 * LIMITS.seconds
    await guarded.call()
    release.set_result(None)
    await left[0]
    assert [*seen, guarded.deadline()] == [end, end, None, None], f"{stack.name}: {seen}"


async def error_of(call: Callable[[], Any]) -> BaseException | None:
    try:
        await call()
    except Exception as exc:
        return exc
    return None


_CHECKS: Final[dict[str, Callable[[Stack], Coroutine[Any, Any, None]]]] = {
    Job.RETRIES: retries,
    Job.OPENS: opens,
    Job.CUTS: cuts,
    Job.LIMITS: limits,
    Job.COUNTS: counts,
    Job.INHERITS: inherits,
}


def checks(stack: Stack) -> list[Callable[[Stack], Coroutine[Any, Any, None]]]:
    """What is checked of a stack: that it gives the result, and each job that it claims."""
    return [gives_the_result, *(_CHECKS[job] for job in sorted(stack.jobs))]


def check(stack: Stack) -> None:
    """Run all checks of a stack. Needs a thread without a running loop."""
    for each in checks(stack):
        run(each(stack))
