"""``async with timeout(seconds)``: the deadline of a block, with the semantics of ``asyncio.timeout``."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Final, cast

from ._machines.timers import queue_for, running_task
from .deadline import Deadline, current_deadline
from .errors import TimedOut

# Seconds. A block entered this soon after its `timeout` was made may share the queue of its length, in which ends
# must come in order; nobody notices this much.
_AT_ONCE: Final = 0.001


class timeout:  # noqa: N801 (the shape and the spelling of asyncio.timeout)
    """``async with timeout(seconds): ...``: a deadline that everything inside inherits.

    The shape of ``asyncio.timeout``: ``when()``, ``reschedule(when)``, ``expired()``; the time runs from its making.
    ``seconds`` None: no limit of its own. ``name`` and ``clock`` are told in the error.

    Raises `TimedOut`, also a TimeoutError, at the end of the block where the time ran out in it; RuntimeError outside a
    task or where it is entered twice.
    """

    def __init__(self, seconds: float | None, *, name: str = "timeout", clock: str = "total") -> None:
        self._seconds = seconds
        self._name = name
        self._clock = clock
        self._made = asyncio.get_running_loop().time()
        self._when = None if seconds is None else self._made + seconds
        self._state = "created"
        self._deadline: Deadline | None = None

    def when(self) -> float | None:
        """The loop's time at which it ends; None where it has no limit."""
        return self._when

    def reschedule(self, when: float | None) -> None:
        """Move the end. Raises RuntimeError where the block has not begun, is over or cut."""
        deadline = self._deadline
        if deadline is None:
            raise RuntimeError("timeout has not been entered")
        if deadline.fired or self._state != "active":
            raise RuntimeError(f"cannot move the end of a timeout that is {self._told_state()}")
        self._when = when
        self._seconds = None if when is None else when - self._made
        deadline.move(math.inf if when is None else when)

    def expired(self) -> bool:
        """Whether the time ran out in the block."""
        return self._deadline is not None and self._deadline.fired

    def _told_state(self) -> str:
        if not self.expired():
            return self._state
        return "expiring" if self._state == "active" else "expired"

    def __repr__(self) -> str:
        state = self._told_state()
        when = (
            f" when={self._when if self._when is None else round(self._when, 3)}" if state == "active" else ""
        )
        return f"<Timeout [{state}]{when}>"  # to the letter what asyncio's says

    async def __aenter__(self) -> timeout:
        if self._deadline is not None:
            raise RuntimeError("timeout has already been entered")
        task = running_task()
        loop = task.get_loop()
        when = self._when
        deadline = self._deadline = Deadline(
            task, math.inf if when is None else when, self, current_deadline()
        )
        if self._seconds is None or self._seconds <= 0 or loop.time() - self._made > _AT_ONCE:
            deadline.start(loop)
        else:
            deadline.start(loop, queue_for(loop, self._seconds))
        deadline.open()
        self._state = "active"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        deadline = self._deadline
        assert deadline is not None
        self._state = "finished"
        if not deadline.close() or exc is None:
            return
        if isinstance(exc, asyncio.CancelledError):
            raise self._error(deadline) from exc
        self._tell_of_cut(exc, deadline)
        if isinstance(exc, BaseExceptionGroup):
            for each in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
                self._tell_of_cut(each, deadline)

    def _tell_of_cut(self, exc: BaseException, deadline: Deadline) -> None:
        """Where something else was raised because of the cut, put our error before the CancelledError that it came of
        (as asyncio does since 3.13).
        """
        while (context := exc.__context__) is not None:
            if isinstance(context, asyncio.CancelledError):
                error = self._error(deadline)
                error.__context__ = error.__cause__ = context
                exc.__context__ = error
                return
            exc = context

    def _error(self, deadline: Deadline) -> TimedOut:
        if self._seconds is None or deadline.inherited:
            waited = asyncio.get_running_loop().time() - self._made
            return TimedOut(self._name, waited, "inherited")
        return TimedOut(self._name, self._seconds, self._clock)
