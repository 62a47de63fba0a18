"""A timeout whose seconds are computed for each call: the guards of one pipeline.

The frame gives them the call's arguments. Lengths in use by many calls share a timer as constant ones do; where there
are too many, each call has a timer of its own, which is gone when the call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from ._inline import Inline, Lines
from ._machines.timers import TimerQueue, queue_for
from ._time_guards import DeadlineGuard, TotalGuard
from .deadline import Deadline
from .policy import Guard, Repeat

_LINES: Final = Lines("token$ = enter_with$(now, $arguments)", "succeeded$(token$, now)")


class _Computed(DeadlineGuard):
    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        return Inline(_LINES, {"enter_with": self.enter_with})

    def queue_of(self, loop: asyncio.AbstractEventLoop, seconds: float) -> TimerQueue | None:
        return queue_for(loop, seconds)


class ComputedTotal(_Computed, TotalGuard):
    """A deadline for everything inside, as far away as the call's arguments say."""

    def enter_with(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deadline:
        return self.opened(now, self.policy.length_for(args, kwargs))


class ComputedAttempt(_Computed):
    """Cuts one attempt after as many seconds as the call's arguments say."""

    clock = "attempt"

    def enter_with(self, now: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Deadline:
        return self.started(now, self.policy.length_for(args, kwargs))
