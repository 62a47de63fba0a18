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
import threading
from typing import Any, Final

# Lengths are constants of a program; values computed for each call must not grow a queue each.
MAX_LENGTHS: Final = 64

Task = asyncio.Task[Any]


class Stay:
    """One task's stay under one timer."""

    __slots__ = ("cancelling", "fired", "handle", "queue", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.cancelling = task.cancelling()
        self.fired = False
        self.queue: TimerQueue | None = None
        self.handle: asyncio.TimerHandle | None = None

    def arm(self, loop: asyncio.AbstractEventLoop, seconds: float, now: float) -> None:
        """Start the clock: in the queue of its length, or with a timer of its own where there are too many lengths."""
        queue = queue_for(loop, seconds)
        if queue is None:
            self.arm_at(loop, now + seconds)
        else:
            self.queue = queue
            queue.add(self, now + seconds)

    def arm_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Start the clock with a timer of its own."""
        self.handle = loop.call_at(when, self.fire)

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
        self.fired = True
        self.task.cancel()

    def ended(self) -> bool:
        """End the stay; True if the task was cut by this timer and by nobody else."""
        if not self.fired:
            self.disarm()
            return False
        return self.task.uncancel() <= self.cancelling


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


_queues: dict[asyncio.AbstractEventLoop, dict[float, TimerQueue]] = {}
_queues_lock = threading.Lock()


def queue_for(loop: asyncio.AbstractEventLoop, seconds: float) -> TimerQueue | None:
    """The queue of that length on that loop; None where the loop has `MAX_LENGTHS` of them already."""
    of_loop = _queues.get(loop)
    if of_loop is None:
        of_loop = _adopt(loop)
    queue = of_loop.get(seconds)
    if queue is None and len(of_loop) < MAX_LENGTHS:
        queue = of_loop[seconds] = TimerQueue(loop, seconds)
    return queue


def _adopt(loop: asyncio.AbstractEventLoop) -> dict[float, TimerQueue]:
    with _queues_lock:
        for other in [other for other in _queues if other.is_closed()]:
            del _queues[other]
        return _queues.setdefault(loop, {})


def queues_of(loop: asyncio.AbstractEventLoop) -> list[TimerQueue]:
    """Every queue of a loop."""
    return list(_queues.get(loop, {}).values())
