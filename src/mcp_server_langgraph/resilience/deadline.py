"""The deadline that a call carries.

A total timeout is a deadline: everything inside inherits it through the context, child tasks too. It is ignored once
its scope is closed (a task that outlives its parent's call is not bound by it), and `detached` leaves it. Because a
closed one is ignored, one that was opened under no other need not be taken out of the context again: the next takes its
place there. It holds nothing by then.

The timer of a deadline cuts the task that opened it, and so whatever that task is in the middle of. In other tasks,
which inherited it, what begins there sets a timer for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final

from ._machines.timers import Stay, Task, TimerQueue

__all__ = ["Deadline", "current_deadline", "detached", "remaining"]


class Deadline(Stay):
    """A point in time, on the loop's clock, after which the caller no longer waits.

    ``end`` is its own end, ``parent`` the deadline it was opened under. ``inherited`` becomes True where the task was
    cut because a deadline around this one passed: the caller's doing, which says nothing about the dependency.
    ``seconds`` is the length that its owner gave it, where the owner wants to know later.
    """

    __slots__ = ("end", "inherited", "owner", "parent", "reset", "seconds")

    seconds: float

    def __init__(self, task: Task, end: float, owner: object = None, parent: Deadline | None = None) -> None:
        # The base's own __init__ is repeated here because this is made for every call with a total timeout.
        self.task = task
        self.cancelling = task.cancelling()
        self.fired = False
        self.queue = None
        self.handle = None
        self.end = end
        self.owner = owner
        self.parent = parent
        self.inherited = False
        self.reset: Token[Deadline | None] | None = None

    @property
    def when(self) -> float:
        """When it passes: at its own end, or earlier with an open deadline around it. Infinity: never."""
        passes = math.inf
        each: Deadline | None = self
        while each is not None:
            if each.end < passes and each.task is not None:
                passes = each.end
            each = each.parent
        return passes

    def start(self, loop: asyncio.AbstractEventLoop, queue: TimerQueue | None = None) -> None:
        """Start the clock; in ``queue`` where it has that length from now on.

        Deadlines around it that this task opened have clocks which cut this task too; for one of another task, where
        it passes first, the clock is set to that.
        """
        parent = self.parent
        if parent is not None and parent.task is not self.task and parent.when < self.end:
            self.arm_at(loop, parent.when)
        elif queue is not None:
            self.arm_in(queue, self.end)
        elif self.end < math.inf:
            self.arm_at(loop, self.end)

    def move(self, end: float) -> None:
        """End at another time."""
        self.disarm()
        self.end = end
        if self.task is not None:
            self.start(self.task.get_loop())

    def fire(self) -> None:
        """The time is up: cut the task, unless what was waited for has moved away or closed meanwhile."""
        if self.task is None:
            return
        loop = self.task.get_loop()
        now = loop.time()
        if self.end > now:
            if self.when > now:
                self.start(loop)
                return
            self.inherited = True
            self._fire_outer(loop, now)
        super().fire()

    def _fire_outer(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Cut the tasks of the deadlines around it first: they must not take our error for the dependency's."""
        outer = self.parent
        while outer is not None:
            task = outer.task
            if outer.end <= now and not outer.fired and task is not None and task.get_loop() is loop:
                outer.disarm()
                outer.fire()
            outer = outer.parent

    def open(self) -> None:
        """Make this the deadline of the context."""
        self.reset = INHERITED.set(self)

    def close(self) -> bool:
        """End it, and leave the context as it was; True if the task was cut by this deadline and by nobody else."""
        self.leave()
        self.owner = None
        return self.ended()

    def leave(self) -> None:
        """Set the context's deadline back."""
        if self.reset is not None:
            _reset(self.reset)
            self.reset = None


INHERITED: Final[ContextVar[Deadline | None]] = ContextVar("resilience_deadline", default=None)


def _reset(token: Token[Deadline | None]) -> None:
    try:
        INHERITED.reset(token)
    except ValueError:
        return  # an abandoned coroutine or generator is closed in a foreign context: there is nothing to set back


def current_deadline() -> Deadline | None:
    """The deadline that binds the code running now; None where there is none."""
    deadline = INHERITED.get()
    while deadline is not None and deadline.task is None:
        deadline = deadline.parent
    return deadline


def remaining() -> float | None:
    """Seconds left of the current deadline (0 at the least); None where there is none. Also in threads."""
    deadline = current_deadline()
    when = math.inf if deadline is None else deadline.when
    if deadline is None or when == math.inf:
        return None
    return max(0.0, when - _now_for(deadline))


def _now_for(deadline: Deadline) -> float:
    """The time on the deadline's clock. In a thread that is the clock of the loop it came from."""
    loop = asyncio._get_running_loop()
    task = deadline.task
    if loop is None and task is not None:
        loop = task.get_loop()
    return now(loop)


def now(loop: asyncio.AbstractEventLoop | None = None) -> float:
    """The time on the loop's clock (default: the running loop's); in a thread without one, that of the usual loops."""
    loop = loop or asyncio._get_running_loop()
    return time.monotonic() if loop is None else loop.time()


def passed() -> bool:
    """Whether the deadline of whoever called has passed: an answer would come too late, and hide that."""
    deadline = current_deadline()
    return deadline is not None and deadline.when <= _now_for(deadline)


def patience(max_wait: float) -> float:
    """Seconds that a wait may take here: ``max_wait``, and less than what is left of the caller's deadline."""
    deadline = current_deadline()
    if deadline is None or deadline.when == math.inf:
        return max_wait
    return min(max_wait, math.nextafter(max(0.0, deadline.when - now()), 0.0))


class detached:  # noqa: N801 (a verb-like context manager, as asyncio.timeout is)
    """Leave the inherited deadline: ``with detached(): ...``. For work that must outlive its caller, as a write-back.

    Tasks created inside are free of it, and pipelines called inside do not look at it; but the task that opened the
    deadline is still cut when it passes. Raises RuntimeError where one object is entered twice.
    """

    __slots__ = ("_reset",)

    def __init__(self) -> None:
        self._reset: Token[Deadline | None] | None = None

    def __enter__(self) -> None:
        if self._reset is not None:
            raise RuntimeError("detached() can be entered only once")
        self._reset = INHERITED.set(None)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reset is not None:
            _reset(self._reset)
