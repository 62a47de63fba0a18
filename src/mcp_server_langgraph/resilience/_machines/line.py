"""The line before a gate that opens with time: first come, first served, whatever each of them takes.

A `Gate` says whether something can be taken now and else when. Only the head of the line has a timer for its turn;
when it is through, or gave up, the next one is called and looks for itself. So a cancelled wait takes nothing along,
and what is given back, or a changed rate, is used by the head at once. Everybody who comes lets through whose turn it
is first: a head whose loop stands still holds nobody up for long.

The lock is reentrant, as the garbage collector may close an abandoned call, which leaves the line, in the middle of
anything.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from typing import Final, Generic, NamedTuple, Protocol, Self, TypeVar

# Seconds. A timer for less may find that no time has passed on a clock that has run for years.
LEAST: Final = 1e-7


class Addable(Protocol):
    """What can be summed up over those who wait."""

    def __add__(self, other: Self, /) -> Self: ...

    def __sub__(self, other: Self, /) -> Self: ...


C = TypeVar("C", bound=Addable)
G = TypeVar("G", contravariant=True)


class Gate(Protocol[G]):
    """What is stood in line for."""

    def take(self, cost: G, now: float, /) -> int:
        """Take it, if it is there: a mark of its own, or 0 where it is not."""
        ...

    def delay(self, cost: G, now: float, ahead: G, /) -> float:
        """Seconds until it can be taken, where ``ahead`` is taken before; 0: now."""
        ...

    def give_back(self, cost: G, mark: int, since: float, now: float, /) -> None:
        """Put back what was taken at ``since``, with that mark, and not used."""
        ...


class Turn(NamedTuple):
    """How a wait ended: since when it has what it wanted, and the gate's mark of it; or, where ``since`` is None, how
    long it would take.
    """

    since: float | None
    delay: float = 0.0
    mark: int = 0


class Sleeper:
    """Somebody in line. ``since``: when its turn came; None until then."""

    since: float | None = None
    mark = 0

    def wake(self) -> bool:
        """Have it look again; False where nobody is there any more."""
        raise NotImplementedError


class LoopSleeper(Sleeper):
    """A task; may be woken from any thread, before it sleeps too."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._called = False
        self._future: asyncio.Future[None] | None = None

    async def sleep(self, seconds: float) -> None:
        """Until it is woken, at most so long."""
        if not self._called:
            self._future = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._call)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        self._called = False

    def wake(self) -> bool:
        """Have it look again; False where its loop is closed."""
        if asyncio._get_running_loop() is self._loop:
            self._call()
            return True
        try:
            self._loop.call_soon_threadsafe(self._call)
        except RuntimeError:
            return False
        return True

    def _call(self) -> None:
        self._called = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class ThreadSleeper(Sleeper):
    """A thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def sleep(self, seconds: float) -> None:
        """Until it is woken, at most so long."""
        self._event.wait(min(seconds, threading.TIMEOUT_MAX))
        self._event.clear()

    def wake(self) -> bool:
        """Have it look again."""
        self._event.set()
        return True


class Line(Generic[C]):
    """Those who wait before one gate. ``nothing`` is the sum of no costs."""

    def __init__(self, gate: Gate[C], nothing: C) -> None:
        self.gate = gate
        self.waiting: OrderedDict[Sleeper, C] = OrderedDict()
        self._nothing = self._ahead = nothing
        self._lock = threading.RLock()

    async def wait(self, cost: C, patience: float, max_queue: float) -> Turn:
        """Stand in line for ``patience`` seconds at most; not at all where it would take longer, or it is full."""
        loop = asyncio.get_running_loop()
        sleeper = LoopSleeper(loop)
        began = loop.time()
        end = began + patience
        turn = self.join(sleeper, cost, began, patience, max_queue)
        try:
            while turn is None:
                now = loop.time()
                left = self.look(sleeper, now)
                if sleeper.since is not None or now >= end:
                    turn = self._ended(sleeper, cost, now, left)
                else:
                    await sleeper.sleep(min(left, end - now))
        except BaseException:
            self._gave_up(sleeper, cost, loop.time())
            raise
        return turn

    def wait_sync(self, cost: C, patience: float, max_queue: float) -> Turn:
        """The same, blocking the thread."""
        sleeper = ThreadSleeper()
        began = time.monotonic()
        end = began + patience
        turn = self.join(sleeper, cost, began, patience, max_queue)
        try:
            while turn is None:
                now = time.monotonic()
                left = self.look(sleeper, now)
                if sleeper.since is not None or now >= end:
                    turn = self._ended(sleeper, cost, now, left)
                else:
                    sleeper.sleep(min(left, end - now))
        except BaseException:
            self._gave_up(sleeper, cost, time.monotonic())
            raise
        return turn

    def join(self, sleeper: Sleeper, cost: C, now: float, patience: float, max_queue: float) -> Turn | None:
        """Take it at once, or stand in line (None), or learn how long it would take."""
        self.advance(now)
        with self._lock:
            mark = 0 if self.waiting else self.gate.take(cost, now)
            if mark:
                return Turn(now, 0.0, mark)
            delay = self.delay(cost, now)
            if delay > patience or len(self.waiting) >= max_queue:
                return Turn(None, delay)
            self.waiting[sleeper] = cost
            self._ahead = self._ahead + cost
        return None

    def look(self, sleeper: Sleeper, now: float) -> float:
        """Seconds until its turn; 0: it has what it wanted; infinity: it is not at the head."""
        self.advance(now)
        with self._lock:
            if sleeper.since is not None:
                return 0.0
            if next(iter(self.waiting), None) is not sleeper:
                return math.inf
            return max(LEAST, self.gate.delay(self.waiting[sleeper], now, self._nothing))

    def delay(self, cost: C, now: float) -> float:
        """Seconds that somebody who came now would wait; 0: none."""
        return self.gate.delay(cost, now, self._ahead)

    def leave(self, sleeper: Sleeper) -> bool:
        """Stop waiting. False where it has what it wanted already: then that is its to use or give back."""
        with self._lock:
            cost = self.waiting.pop(sleeper, None)
            if cost is None:
                return False
            self._left(cost)
        return True

    def advance(self, now: float, *, changed: bool = False) -> None:
        """Let through whose turn it is, and call the next one. ``changed``: the gate opens at another time than it
        said.
        """
        while self.waiting and self._let_one_through(now):
            changed = True
        while changed and self.waiting:
            head = next(iter(list(self.waiting)), None)
            if head is None or head.wake() or not self.leave(head):
                break

    def _let_one_through(self, now: float) -> bool:
        with self._lock:
            head, cost = next(iter(self.waiting.items()), (None, self._nothing))
            if head is None:
                return False
            mark = self.gate.take(cost, now)
            if not mark:
                return False
            if self.waiting.pop(head, None) is None:  # closed by the garbage collector in between
                self.gate.give_back(cost, mark, now, now)
                return True
            self._left(cost)
            head.since = now
            head.mark = mark
        if not head.wake():
            self.gate.give_back(cost, mark, now, now)
        return True

    def _left(self, cost: C) -> None:
        # Sums of fractions drift; nobody in line is exactly nothing.
        self._ahead = self._ahead - cost if self.waiting else self._nothing

    def _ended(self, sleeper: Sleeper, cost: C, now: float, left: float) -> Turn:
        if sleeper.since is None and self.leave(sleeper):
            delay = left if left < math.inf else self.delay(cost, now)
            self.advance(now, changed=True)
            return Turn(None, delay)
        return Turn(sleeper.since, 0.0, sleeper.mark)

    def _gave_up(self, sleeper: Sleeper, cost: C, now: float) -> None:
        if not self.leave(sleeper) and sleeper.since is not None:
            self.gate.give_back(cost, sleeper.mark, sleeper.since, now)
        self.advance(now, changed=True)
