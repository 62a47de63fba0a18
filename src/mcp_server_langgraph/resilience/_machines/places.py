"""The machine of bulkheads and limits: places, and a bounded line of those who wait for one (FIFO where none is given).

Free places are tokens in a deque, whose ``pop`` and ``append`` are atomic, so that threads and loops may share a
bulkhead and the success path takes no lock. The lock guards the queue and changes of the limit. A place is either in
the deque, held by a call, on its way to a waiter, or owed (`debt`: the limit shrank while it was held).

A releaser appends first and looks for waiters and debts after; a waiter enters the queue first and tries again after,
and so does a change of the limit with its debt. So no place is left lying while somebody waits (Dekker's pattern).

The lock is reentrant, and each step takes what it gives in one atomic call: the garbage collector may close an
abandoned call, which gives its place back, in the middle of any of them (what bpo-14976 is about for queues).
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """Somebody in the queue."""

    def wake(self) -> bool:
        """Hand the place over; False where nobody is there any more."""
        ...


W = TypeVar("W", bound=Waiter)


class Line(Protocol[W]):
    """Those who wait, in some order. ``now`` is the time of what happens."""

    def __len__(self) -> int: ...

    def join(self, waiter: W, room: int, now: float) -> bool:
        """Wait in it; False where there is no room."""
        ...

    def leave(self, waiter: W, now: float) -> bool:
        """Stop waiting; False where the waiter is not in it."""
        ...

    def next(self, now: float) -> W | None:
        """Take out whose turn it is; None where nobody waits."""
        ...


class Fifo(OrderedDict[W, None]):
    """Who has waited longest is next."""

    def join(self, waiter: W, room: int, now: float) -> bool:
        """Wait in it; False where there is no room."""
        if len(self) >= room:
            return False
        self[waiter] = None
        return True

    def leave(self, waiter: W, now: float) -> bool:
        """Stop waiting; False where the waiter is not in it."""
        return self.pop(waiter, False) is None

    def next(self, now: float) -> W | None:
        """Take out whose turn it is; None where nobody waits."""
        try:
            return self.popitem(last=False)[0]
        except KeyError:
            return None


class LoopWaiter:
    """A waiting task; may be woken from any thread."""

    __slots__ = ("_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> bool:
        """Hand the place over; False where its loop is closed."""
        return self.tell(True)

    def tell(self, got_it: bool) -> bool:
        """End the wait from any thread; False where its loop is closed."""
        if asyncio._get_running_loop() is self._loop:
            self.settle(got_it)
            return True
        try:
            self._loop.call_soon_threadsafe(self.settle, got_it)
        except RuntimeError:
            return False
        return True

    def settle(self, got_it: bool) -> None:
        """End the wait: with a place, or because it took too long."""
        if not self.future.done():
            self.future.set_result(got_it)


class ThreadWaiter:
    """A waiting thread."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = threading.Event()

    def wake(self) -> bool:
        """Hand the place over."""
        self.event.set()
        return True


class Places(Generic[W]):
    """``limit`` places, changeable while they are held, and a line. The bulkhead's line does not ask for the time."""

    def __init__(self, limit: int, line: Line[W] | None = None) -> None:
        self.limit = limit
        self.debt = 0
        self.free: deque[None] = deque([None] * limit)
        self.waiting: Line[W] = Fifo[W]() if line is None else line
        self._lock = threading.RLock()

    @property
    def active(self) -> int:
        """Places held or on their way to a waiter."""
        with self._lock:
            return self.limit + self.debt - len(self.free)

    def give_back(self, now: float = 0.0) -> None:
        """Free a place, for whose turn it is."""
        if self.debt and self._pay():
            return
        self.free.append(None)
        if self.waiting or self.debt:
            self.settle(now)

    def enqueue(self, waiter: W, max_queue: int, now: float = 0.0) -> bool:
        """Wait in line; False where the line is full. The place may be handed over before this returns."""
        with self._lock:
            self._pay_with_free()
            at_once = not self.waiting and self._take()
            if not at_once and not self.waiting.join(waiter, max_queue, now):
                return False
        if at_once:
            waiter.wake()
        else:
            self.settle(now)
        return True

    def withdraw(self, waiter: W, now: float = 0.0) -> bool:
        """Stop waiting. False where a place was handed over already: then it is the waiter's to use or give back."""
        with self._lock:
            return self.waiting.leave(waiter, now)

    def resize(self, limit: int, now: float = 0.0) -> None:
        """Change the number of places. Held ones beyond a smaller limit are not taken over when they come back."""
        with self._lock:
            grown = limit - self.limit
            self.limit = limit
            forgiven = min(self.debt, max(grown, 0))
            self.debt += max(-grown, 0) - forgiven
            self.free.extend([None] * (grown - forgiven))
            self._pay_with_free()
        self.settle(now)

    def _take(self) -> bool:
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def _pay(self) -> bool:
        """Pay a debt with the place that comes back."""
        with self._lock:
            if not self.debt:
                return False
            self.debt -= 1
            return True

    def _pay_with_free(self) -> None:
        while self.debt and self._take():
            self.debt -= 1

    def settle(self, now: float = 0.0) -> None:
        """Pay what is owed, then hand free places over in the line's order."""
        while True:
            waiter = self._next(now)
            if waiter is None:
                return
            if not waiter.wake():
                self.free.append(None)

    def _next(self, now: float) -> W | None:
        with self._lock:
            self._pay_with_free()
            if not self.waiting or not self._take():
                return None
            waiter = self.waiting.next(now)
            if waiter is None:
                self.free.append(None)
            return waiter
