"""Run coroutines in virtual time, and move it from inside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from mcp_server_langgraph.resilience.testing._task_report import report
from mcp_server_langgraph.resilience.testing.virtual_loop import (
    LeftoverTasksError,
    UnhandledErrorsError,
    VirtualClockLoop,
)

__all__ = ["advance", "run", "settle", "waiting_for_threads"]

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    start: float = 0.0,
    max_time: float | None = None,
    max_iterations: int | None = 1_000_000,
    thread_patience: float = 30.0,
    strict: bool = False,
    debug: bool | None = None,
) -> T:
    """``asyncio.run`` in virtual time: run the coroutine on a new ``VirtualClockLoop`` and return its result.

    ``strict`` also fails a run that leaves tasks pending (``LeftoverTasksError``) or errors unhandled
    (``UnhandledErrorsError``). The other arguments are those of the loop, and ``debug`` that of ``asyncio.run``.
    Raises what the coroutine raises, a ``VirtualTimeError``, or RuntimeError where a loop is running already.
    """

    def new_loop() -> VirtualClockLoop:
        return VirtualClockLoop(
            start=start, max_time=max_time, max_iterations=max_iterations, thread_patience=thread_patience
        )

    return run_on(new_loop, main, strict=strict, debug=debug)


def run_on(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    main: Coroutine[Any, Any, T],
    *,
    strict: bool,
    debug: bool | None = None,
) -> T:
    """`run` on a loop of that making."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_loop) as runner:
        if not strict:
            return runner.run(main)
        unhandled: list[dict[str, Any]] = []
        runner.get_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        result = runner.run(main)
        leftovers = runner.run(_leftovers())
    _refuse(leftovers, unhandled)
    return result


async def advance(seconds: float) -> None:
    """Let virtual time pass: sleep, then let everything that became due by then run.

    Raises RuntimeError outside a ``VirtualClockLoop``.
    """
    loop = _loop()
    await asyncio.sleep(seconds)
    await loop.settle()


async def settle() -> None:
    """Wait until every other task waits for a timer, a thread or another task; no virtual time passes.

    Raises RuntimeError outside a ``VirtualClockLoop``.
    """
    await _loop().settle()


def waiting_for_threads() -> contextlib.AbstractContextManager[None]:
    """While open, the running loop waits for other threads' ``call_soon_threadsafe`` instead of moving its clock.

    Raises RuntimeError outside a ``VirtualClockLoop``.
    """
    return _loop().waiting_for_threads()


def _loop() -> VirtualClockLoop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualClockLoop):
        raise RuntimeError(f"time is virtual only inside {run.__module__}.run(), not on {loop!r}")
    return loop


async def _leftovers() -> str:
    """A report of the tasks left after what was cancelled or ready has had its chance to end."""
    await settle()
    return report(asyncio.all_tasks() - {asyncio.current_task()})


def _refuse(leftovers: str, unhandled: Iterable[dict[str, Any]]) -> None:
    if leftovers:
        raise LeftoverTasksError(f"tasks were left pending:\n{leftovers}")
    errors = list(unhandled)
    if errors:
        told = "; ".join(f"{it['message']} ({it.get('exception')!r})" for it in errors)
        causes = [it["exception"] for it in errors if it.get("exception")]
        raise UnhandledErrorsError(told) from next(iter(causes), None)
