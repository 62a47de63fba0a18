"""Timers for timeouts, at a fraction of the price of ``loop.call_at`` for each.

Timeouts of one length expire in the order in which they began. So a dict, which keeps that order, and one timer of
the loop serve all of one length: arming is an insertion, disarming a deletion, and nothing is left in the loop's
heap (2,000 suspended calls under ``asyncio.timeout`` leave 2,000 handles there).

A timed stay is a `Stay`, or, on the cheapest path, the task itself: a task that enters a queue once, and that nobody
has asked to cancel, needs no record of its own. The rules of cancellation are those of ``asyncio.Timeout``:
``Task.cancelling()`` is remembered at entry and compared with ``uncancel()`` at the end, so that a cancellation from
outside is never taken for an expiry.
"""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any, Final, cast

# Of one loop. Lengths are constants of a program; those computed for each call must not keep a queue each.
MAX_LENGTHS: Final = 64

Task = asyncio.Task[Any]


class Stay:
    """One task's stay under one timer. ``task`` is None once it is over."""

    __slots__ = ("cancelling", "fired", "handle", "queue", "task")

    def __init__(self, task: Task) -> None:
        self.task: Task | None = task
        self.cancelling = task.cancelling()
        self.fired = False
        self.queue: TimerQueue | None = None
        self.handle: asyncio.Handle | None = None

    def arm_in(self, queue: TimerQueue, when: float) -> None:
        """Start the clock in the queue of its length."""
        self.queue = queue
        queue.add(self, when)

    def arm_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Start the clock with a timer of its own. A time that has come cuts before the task's next step."""
        overdue = when <= loop.time()
        self.handle = loop.call_soon(self.fire) if overdue else loop.call_at(when, self.fire)

    def disarm(self) -> None:
        """Stop the clock. Harmless when it has fired."""
        if self.queue is not None:
            self.queue.entries.pop(self, None)
            self.queue = None
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def fire(self) -> None:
        """The time is up: cut the task."""
        if self.task is not None:
            self.fired = True
            self.task.cancel()

    def ended(self) -> bool:
        """End the stay; True if the task was cut by this timer and by nobody else."""
        task, self.task = self.task, None
        self.disarm()
        return self.fired and task is not None and task.uncancel() <= self.cancelling


class TimerQueue:
    """All timeouts of one length on one loop."""

    __slots__ = ("entries", "fired", "handle", "loop", "seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.loop = loop
        self.seconds = seconds
        self.entries: dict[Stay | Task, float] = {}
        self.fired: set[Task] = set()
        self.handle: asyncio.TimerHandle | None = None

    def add(self, entry: Stay | Task, when: float) -> None:
        """Begin a stay that ends at ``when`` (the loop's clock), not before any that is already in the queue."""
        self.entries[entry] = when
        if self.handle is None:
            self.schedule(when)

    def schedule(self, when: float) -> None:
        """Set the loop's timer, where none is set."""
        self.handle = self.loop.call_at(when, self._expire)

    def stop(self) -> None:
        """Take the loop's timer away; the next entry sets a new one."""
        if self.handle is not None:
            self.handle.cancel()
            self.handle = None

    def ended(self, task: Task) -> bool:
        """End a stay that is keyed by its task; True if it was cut by this queue and by nobody else."""
        if self.entries.pop(task, None) is not None or task not in self.fired:
            return False
        self.fired.discard(task)
        return task.uncancel() <= 0

    def _expire(self) -> None:
        self.handle = None
        now = self.loop.time()
        while self.entries:
            entry, when = next(iter(self.entries.items()))
            if when > now:
                self.schedule(when)
                return
            del self.entries[entry]
            if isinstance(entry, Stay):
                entry.queue = None
                entry.fire()
            else:
                self.fired.add(entry)
                entry.cancel()


# Where nothing is timed: the queue of a guard that has met no loop yet.
NOWHERE: Final = TimerQueue(cast(asyncio.AbstractEventLoop, None), math.nan)

_queues: dict[asyncio.AbstractEventLoop, dict[float, TimerQueue]] = {}
_queues_lock = threading.Lock()


def queue_for(loop: asyncio.AbstractEventLoop, seconds: float) -> TimerQueue | None:
    """The queue of that length on that loop, to be asked for in the loop's thread; None where calls are in flight
    under `MAX_LENGTHS` other lengths.
    """
    of_loop = _queues.get(loop)
    if of_loop is None:
        of_loop = _adopt(loop)
    queue = of_loop.get(seconds)
    if queue is None and (len(of_loop) < MAX_LENGTHS or _drop_idle(of_loop)):
        queue = of_loop[seconds] = TimerQueue(loop, seconds)
    return queue


def _drop_idle(of_loop: dict[float, TimerQueue]) -> bool:
    """Forget the lengths under which nothing is in flight; True if there were any. Who holds such a queue may go on
    using it.
    """
    idle = [queue for queue in of_loop.values() if not queue.entries]
    for queue in idle:
        queue.stop()
        del of_loop[queue.seconds]
    return bool(idle)


def _adopt(loop: asyncio.AbstractEventLoop) -> dict[float, TimerQueue]:
    with _queues_lock:
        for other in [other for other in _queues if other.is_closed()]:
            del _queues[other]
        return _queues.setdefault(loop, {})


def running_task() -> Task:
    """The task running now. Raises RuntimeError where there is none: only a task can be cut."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a timeout needs a running task")
    return task
