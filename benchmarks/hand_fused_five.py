"""The four policies of `hand_fused` under a total deadline that everything inside inherits, in one function by hand.

The deadline is an object in a context variable, so that inner code and child tasks find it (`current_deadline`), ignore
it once it is closed, and never set one that ends later. Its timer, too, is one for all of a length.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task, get_running_loop
from bisect import bisect_left
from contextvars import ContextVar
from typing import Any, Final

from mcp_server_langgraph.resilience.metrics import LATENCY_BOUNDS

from ._stacks import ALL_FOUR, Fn, Guarded, Job, Limits, Stack
from .hand_fused import State

__all__ = ["HAND_FUSED_FIVE"]


class Deadline:
    """When the call of ``task`` must be over; ``task`` is None once it is."""

    __slots__ = ("cancelling", "end", "fired", "task")

    def __init__(self, task: asyncio.Task[Any], end: float) -> None:
        self.task: asyncio.Task[Any] | None = task
        self.end = end
        self.cancelling = task.cancelling()
        self.fired = False


DEADLINE: Final[ContextVar[Deadline | None]] = ContextVar("deadline", default=None)


def current_deadline() -> float | None:
    """When the deadline that binds the running code ends."""
    deadline = DEADLINE.get()
    return None if deadline is None or deadline.task is None else deadline.end


class Totals:
    """The deadlines of one length that are open, in the order of their ends."""

    __slots__ = ("entries", "handle")

    def __init__(self) -> None:
        self.entries: dict[Deadline, float] = {}
        self.handle: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        self.handle = None
        loop = get_running_loop()
        now = loop.time()
        while self.entries:
            deadline, when = next(iter(self.entries.items()))
            if when > now:
                self.handle = loop.call_at(when, self.expire)
                return
            del self.entries[deadline]
            self.fire(deadline)

    def fire(self, deadline: Deadline) -> None:
        if deadline.task is not None:
            deadline.fired = True
            deadline.task.cancel()

    def failed(self, deadline: Deadline, task: asyncio.Task[Any], exc: BaseException) -> bool:
        """End a call that raised; True if it was we who cut it."""
        self.entries.pop(deadline, None)
        if not deadline.fired or task.uncancel() > deadline.cancelling:
            return False
        return isinstance(exc, asyncio.CancelledError)


def hand_fused_five(fn: Fn, limits: Limits) -> Guarded:
    state, totals = State(limits), Totals()
    attempts, seconds, limit = limits.attempts, limits.seconds, limits.limit
    total = 2 * seconds
    bounds, counts, entries, deadlines = LATENCY_BOUNDS, state.counts, state.entries, totals.entries

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        loop = get_running_loop()
        task = current_task()
        assert task is not None
        started = now = loop.time()
        deadline = Deadline(task, now + total)
        outer = DEADLINE.get()
        if outer is not None and outer.task is not None and outer.end < deadline.end:
            deadline.end = outer.end
            loop.call_at(outer.end, totals.fire, deadline)
        else:
            deadlines[deadline] = deadline.end
            if totals.handle is None:
                totals.handle = loop.call_at(deadline.end, totals.expire)
        reset = DEADLINE.set(deadline)
        try:
            if state.active >= limit:
                await state.wait_for_place()
                now = loop.time()
            else:
                state.active += 1
            try:
                state.first += 1
                attempt = 1
                while True:
                    admission = state.closed or state.admit(now)
                    entries[task] = when = now + seconds
                    if state.handle is None:
                        state.handle = loop.call_at(when, state.expire)
                    try:
                        result = await fn(*args, **kwargs)
                    except BaseException as exc:
                        cut = state.cut(task) and isinstance(exc, asyncio.CancelledError)
                        if cut or isinstance(exc, Exception) or deadline.fired:
                            state.failed(admission, loop.time())
                        else:
                            state.abandoned(admission)
                        if cut:
                            raise TimeoutError from exc
                        if attempt >= attempts or not isinstance(exc, ConnectionError):
                            raise
                    else:
                        del entries[task]
                        now = loop.time()
                        state.successes += 1
                        if admission is not state.closed:
                            state.succeeded(admission)
                        elif state.failures:
                            state.failures = 0
                        break
                    await asyncio.sleep(0)
                    attempt += 1
                    state.later += 1
                    now = loop.time()
            finally:
                if state.waiting:
                    state.give_place_back()
                else:
                    state.active -= 1
        except BaseException as exc:
            if totals.failed(deadline, task, exc):
                raise TimeoutError from exc
            raise
        else:
            deadlines.pop(deadline, None)
        finally:
            deadline.task = None
            DEADLINE.reset(reset)
        elapsed = now - started
        counts[bisect_left(bounds, elapsed)] += 1
        state.sum += elapsed
        return result

    return Guarded(guarded, state.numbers, current_deadline)


HAND_FUSED_FIVE: Final = Stack(
    "the same five, fused by hand", hand_fused_five, ALL_FOUR | {Job.COUNTS, Job.INHERITS}
)
