"""A stream's clocks, which run while we wait for it, step by step: no deadline is left in the consumer's context."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, NamedTuple

from ._machines.timers import queue_for, running_task
from ._time_guards import TimeGuard
from .deadline import Deadline, current_deadline


class _End(NamedTuple):
    """When a step must be over, and whose word that is. ``fresh``: it is ``seconds`` from now."""

    when: float
    seconds: float
    clock: str
    guard: TimeGuard
    began: float
    fresh: bool


class StreamClock:
    """A timeout's clocks for one stream, with the settings that it began with."""

    def __init__(self, guard: TimeGuard, began: float, seconds: float) -> None:
        policy = guard.policy
        self.guard = guard
        self.began = began
        self.whole = _End(began + seconds, seconds, guard.clock, guard, began, fresh=False)
        self.first_item = policy.first_item
        self.idle = policy.idle

    def first_end(self) -> _End:
        """The end of the wait for the first item, which begins with the clock."""
        if self.first_item is not None and self.first_item < self.whole.seconds:
            when = self.began + self.first_item
            return _End(when, self.first_item, "first item", self.guard, self.began, fresh=True)
        return self.whole._replace(fresh=True)

    def next_end(self, now: float) -> _End:
        """The end of the wait for another item, which begins now."""
        if self.idle is not None and now + self.idle < self.whole.when:
            return _End(now + self.idle, self.idle, "idle", self.guard, self.began, fresh=True)
        return self.whole


class Step:
    """Cuts one step of a stream. The deadline is the context's only meanwhile."""

    __slots__ = ("_deadline", "_end")

    def __init__(self, end: _End) -> None:
        self._end = end

    def __enter__(self) -> None:
        end = self._end
        task = running_task()
        loop = task.get_loop()
        if end.when <= loop.time():  # not every step waits, and only what waits can be cut
            raise end.guard.cut(end.clock, end.seconds)
        self._deadline = Deadline(task, end.when, end.guard, current_deadline())
        self._deadline.start(loop, queue_for(loop, end.seconds) if end.fresh else None)
        self._deadline.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._deadline.close() and isinstance(exc, asyncio.CancelledError):
            end = self._end
            if self._deadline.inherited:
                now = asyncio.get_running_loop().time()
                raise end.guard.cut("inherited", now - end.began) from exc
            raise end.guard.cut(end.clock, end.seconds) from exc


class FreeStep:
    """A step without a clock."""

    def __enter__(self) -> None:
        """Nothing is set."""

    def __exit__(self, *error: object) -> None:
        """Nothing is taken back."""


FREE: Final = FreeStep()
