"""The deadline that a call carries.

A total timeout is a deadline: everything inside inherits it through the context, child tasks too. It is ignored once
its scope is closed (a task that outlives its parent's call is not bound by it), and `detached` leaves it.

The timer of a deadline cuts the task that opened it. Other tasks that inherited it look at `Deadline.when` when they
begin something, and set a timer of their own.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final

from ._timers import Stay, Task

__all__ = ["Deadline", "current_deadline", "detached", "remaining"]


class Deadline(Stay):
    """A point in time, on the loop's clock, after which the caller no longer waits.

    ``when`` is never later than the deadline it was opened under. ``inherited`` is True where that one is the
    shorter, so that its expiry is the caller's doing and says nothing about the dependency.
    """

    __slots__ = ("closed", "inherited", "owner", "parent", "reset", "when")

    def __init__(self, task: Task, when: float, owner: object = None) -> None:
        super().__init__(task)
        self.when = when
        self.owner = owner
        self.closed = False
        self.inherited = False
        self.parent: Deadline | None = None
        self.reset: Token[Deadline | None] | None = None

    def open(self, parent: Deadline | None) -> None:
        """Make this the deadline of the context."""
        self.parent = parent
        if parent is not None and parent.when < self.when:
            self.when = parent.when
            self.inherited = True
        self.reset = INHERITED.set(self)

    def close(self) -> bool:
        """Leave the context as it was; True if the deadline expired and cut its task."""
        self.closed = True
        if self.reset is not None:
            INHERITED.reset(self.reset)
            self.reset = None
        return self.ended()


INHERITED: Final[ContextVar[Deadline | None]] = ContextVar("resilience_deadline", default=None)


def current_deadline() -> Deadline | None:
    """The deadline that binds the code running now; None where there is none."""
    deadline = INHERITED.get()
    while deadline is not None and deadline.closed:
        deadline = deadline.parent
    return deadline


def remaining() -> float | None:
    """Seconds left of the current deadline (0 at the least); None where there is none. Needs a running loop."""
    deadline = current_deadline()
    if deadline is None:
        return None
    return max(0.0, deadline.when - asyncio.get_running_loop().time())


class detached:  # noqa: N801 (a verb-like context manager, as asyncio.timeout is)
    """Leave the inherited deadline: ``with detached(): ...``. For work that must outlive its caller, as a write-back.

    Tasks created inside are free of it too.
    """

    __slots__ = ("_reset",)

    def __enter__(self) -> None:
        self._reset = INHERITED.set(None)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        INHERITED.reset(self._reset)
