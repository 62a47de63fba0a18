"""Deadlines in threads, where nothing can be cut: carried there, known there, and asked before anything begins."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from ._late import expired
from ._machines.timers import Task
from .deadline import Deadline, remaining

P = ParamSpec("P")
T = TypeVar("T")


class _NoTask:
    """Stands where a deadline has its task, in threads: nothing can be cut there."""

    def cancelling(self) -> int:
        return 0

    def get_loop(self) -> None:
        return None


class Uncut(Deadline):
    """A deadline in a thread: a time on the clock of ``time.monotonic``, known to `remaining`, with no timer. It has no
    parent, since that may be told on another clock: ``end`` is the earliest of all.
    """

    __slots__ = ()

    def __init__(self, end: float) -> None:
        super().__init__(cast(Task, _NoTask()), end)


def carried(fn: Callable[P, T]) -> Callable[P, T]:
    """``fn`` with the context of now, for threads: ``pool.submit(carried(fn), ...)``.

    The deadline is carried as a fixed point in time: `remaining` in the thread goes down to 0 and stays there, also
    after the call that it came from was cut. Raises `DeadlineExceeded` instead of beginning where the time was up when
    the thread came to it.
    """
    context = contextvars.copy_context()
    left = remaining()
    end = None if left is None else time.monotonic() + left

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(_under, end, functools.partial(fn, *args, **kwargs))

    return run


def _under(end: float | None, fn: Callable[[], T]) -> T:
    if end is None:
        return fn()
    if end <= time.monotonic():
        raise expired("thread")
    deadline = Uncut(end)
    deadline.open()
    try:
        return fn()
    finally:
        deadline.close()


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``asyncio.to_thread`` for a `carried` function: what has waited for a thread beyond its deadline is not begun.

    Raises what ``fn`` raises, or `DeadlineExceeded`. A thread cannot be cut: ``fn`` asks `remaining` now and then.
    """
    call = functools.partial(carried(fn), *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(None, call)
