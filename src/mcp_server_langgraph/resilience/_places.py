"""The bulkhead's machine: places, and a bounded FIFO queue of those who wait for one.

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
from typing import Protocol


class Waiter(Protocol):
    """Somebody in the queue."""

    def wake(self) -> bool:
        """Hand the place over; False where nobody is there any more."""
        ...


class LoopWaiter:
    """A waiting task; may be woken from any thread."""

    __slots__ = ("_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[bool] = loop.create_future()

    def wake(self) -> bool:
        """Hand the place over; False where its loop is closed."""
        if asyncio._get_running_loop() is self._loop:
            self.settle(True)
            return True
        try:
            self._loop.call_soon_threadsafe(self.settle, True)
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


class Places:
    """``limit`` places, changeable while they are held."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.debt = 0
        self.free: deque[None] = deque([None] * limit)
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def active(self) -> int:
        """Places held or on their way to a waiter."""
        with self._lock:
            return self.limit + self.debt - len(self.free)

    def give_back(self) -> None:
        """Free a place, for the one who has waited longest."""
        if self.debt and self._pay():
            return
        self.free.append(None)
        if self.waiting or self.debt:
            self.settle()

    def enqueue(self, waiter: Waiter, max_queue: int) -> bool:
        """Wait in line; False where the line is full. The place may be handed over before this returns."""
        with self._lock:
            self._pay_with_free()
            at_once = not self.waiting and self._take()
            if not at_once:
                if len(self.waiting) >= max_queue:
                    return False
                self.waiting[waiter] = None
        if at_once:
            waiter.wake()
        else:
            self.settle()
        return True

    def withdraw(self, waiter: Waiter) -> bool:
        """Stop waiting. False where a place was handed over already: then it is the waiter's to use or give back."""
        with self._lock:
            return self.waiting.pop(waiter, False) is None

    def resize(self, limit: int) -> None:
        """Change the number of places. Held ones beyond a smaller limit are not taken over when they come back."""
        with self._lock:
            grown = limit - self.limit
            self.limit = limit
            forgiven = min(self.debt, max(grown, 0))
            self.debt += max(-grown, 0) - forgiven
            self.free.extend([None] * (grown - forgiven))
            self._pay_with_free()
        self.settle()

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

    def settle(self) -> None:
        """Pay what is owed, then hand free places over, the one who has waited longest first."""
        while True:
            waiter = self._next()
            if waiter is None:
                return
            if not waiter.wake():
                self.free.append(None)

    def _next(self) -> Waiter | None:
        with self._lock:
            self._pay_with_free()
            if not self.waiting or not self._take():
                return None
            try:
                return self.waiting.popitem(last=False)[0]
            except KeyError:
                self.free.append(None)
                return None
