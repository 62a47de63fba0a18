"""An event loop for tests: deterministic, and nobody waits for real.

``loop.time()`` stands still while anything is ready to run and jumps to the next timer when nothing is, so half an
hour of outage passes in milliseconds and always in the same way. The idea is trio's ``MockClock`` with
``autojump_threshold=0``. Where asyncio would hang for ever, the loop raises and says which task waits where.

    VirtualTimeError
    ├── DeadlockError           nothing is ready, no timer is set, and the main coroutine is not done
    ├── EndlessLoopError        more virtual seconds or more iterations than allowed
    ├── LeftoverTasksError      strict runs only: tasks were still pending when the main coroutine returned
    └── UnhandledErrorsError    strict runs only: errors that reached nobody but the loop's exception handler

Only the loop's clock is virtual: ``time.monotonic()`` and ``time.time()`` go on as they are. Sockets and pipes are
refused, because their peers live in real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import selectors
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Self, TypeVar, TypeVarTuple

from mcp_server_langgraph.resilience.testing._task_report import report

__all__ = [
    "DeadlockError",
    "EndlessLoopError",
    "LeftoverTasksError",
    "UnhandledErrorsError",
    "VirtualClockLoop",
    "VirtualTimeError",
]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Events = list[tuple[selectors.SelectorKey, int]]

_CLEANUP_ITERATIONS = 10_000
"""Given once the limit was hit, so that ``asyncio.Runner`` can cancel what is left."""


class VirtualTimeError(RuntimeError):
    """Base of what the virtual-time loop raises by itself."""


class DeadlockError(VirtualTimeError):
    """Nothing can ever happen again, and the main coroutine is not done. The message says where each task waits."""


class EndlessLoopError(VirtualTimeError):
    """The run took more virtual seconds or more iterations of the loop than it was given."""


class LeftoverTasksError(VirtualTimeError):
    """The main coroutine returned and left tasks behind."""


class UnhandledErrorsError(VirtualTimeError):
    """Errors in callbacks, or in tasks that nobody awaited. The first of them that is an exception is the cause."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """A selector event loop with a virtual clock.

    The clock starts at ``start`` seconds. Timers fire exactly at their time, those of one time in the order in which
    they were set. ``max_time`` bounds the virtual seconds that may pass, ``max_iterations`` the turns of the loop;
    None means no bound.

    Threads take no virtual time: while a job of ``run_in_executor`` or ``asyncio.to_thread`` is awaited, or a
    ``waiting_for_threads()`` block is open, the clock stands still and the loop really waits, for up to
    ``thread_patience`` real seconds; after that the clock moves on (or, with no timer set, a deadlock is reported).
    """

    _scheduled: list[asyncio.TimerHandle]
    """asyncio's own heap of timers. It takes those that were cancelled off the head before it selects."""

    def __init__(
        self,
        *,
        start: float = 0.0,
        max_time: float | None = None,
        max_iterations: int | None = 1_000_000,
        thread_patience: float = 30.0,
    ) -> None:
        self._now = float(start)
        self._last = math.inf if max_time is None else start + max_time
        self._iterations_left = math.inf if max_iterations is None else max_iterations
        self._thread_patience = thread_patience
        self._timers_set = 0
        self._settling: deque[asyncio.Future[None]] = deque()
        self._outside: set[object] = set()
        self._poll = _Selector(self._next_events)
        super().__init__(self._poll)
        self._poll.sealed = True
        self._set_clock(self._now)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call back at a virtual time; callbacks of equal times are called in the order of these calls."""
        self._timers_set += 1
        return super().call_at(_Instant(when, self._timers_set), callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run in a thread. The clock stands still until the returned future is done or cancelled."""
        future = super().run_in_executor(executor, func, *args)
        self._outside.add(future)
        future.add_done_callback(self._outside.discard)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the executor's threads for real; ``timeout`` would be a virtual one and is not used."""
        with self.waiting_for_threads():
            await super().shutdown_default_executor()

    @contextlib.contextmanager
    def waiting_for_threads(self) -> Generator[None, None, None]:
        """While open, other threads may call ``call_soon_threadsafe``: the loop waits for them instead of jumping."""
        token = object()
        self._outside.add(token)
        try:
            yield
        finally:
            self._outside.discard(token)

    async def settle(self) -> None:
        """Wait until nothing else is ready at this instant. Neither the clock nor jobs in threads are waited for."""
        idle = self.create_future()
        self._settling.append(idle)
        await idle

    def _next_events(self, timeout: float | None) -> Events:
        self._iterations_left -= 1
        if self._iterations_left < 0:
            self._iterations_left = _CLEANUP_ITERATIONS
            raise EndlessLoopError(self._stuck("the loop has turned more often than max_iterations allows"))
        events = self._poll.wait(0)
        if events or timeout == 0 or self._settled_one():
            return events
        if self._outside:
            events = self._poll.wait(self._thread_patience)
        if not events:
            self._jump()
        return events

    def _settled_one(self) -> bool:
        """Wake the first settler that still waits; only one, so that what it starts is run before the next wakes."""
        while self._settling:
            idle = self._settling.popleft()
            if not idle.done():
                idle.set_result(None)
                return True
        return False

    def _jump(self) -> None:
        when = float(self._scheduled[0].when()) if self._scheduled else math.inf
        if not math.isfinite(when):
            raise DeadlockError(self._stuck("nothing is ready and no timer is set"))
        if when > self._last:
            raise EndlessLoopError(self._stuck(f"max_time ends before the next timer, at {when:g} s"))
        self._set_clock(when)

    def _set_clock(self, now: float) -> None:
        self._now = now
        # asyncio runs the timers before now + resolution: with one unit in the last place these are the timers up to
        # now, all of them however large the clock's figure is, and none too early.
        self._clock_resolution = math.ulp(now)

    def _stuck(self, why: str) -> str:
        return f"at {self._now:g} s {why}; pending tasks:\n{report(asyncio.all_tasks(self))}"


class _Instant(float):
    """A time with a place in the queue: asyncio's heap of timers, by itself, does not keep equal times in order."""

    __slots__ = ("place",)

    place: int

    def __new__(cls, when: float, place: int) -> Self:
        instant = super().__new__(cls, when)
        instant.place = place
        return instant

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant):
            return (float(self), self.place) < (float(other), other.place)
        return float(self) < other


class _Selector(selectors.DefaultSelector):
    """Waits for the loop's own wake-up pipe, and only when the loop says so; once sealed it takes nothing else."""

    def __init__(self, next_events: Callable[[float | None], Events]) -> None:
        super().__init__()
        self.sealed = False
        self._next_events = next_events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.sealed:
            raise RuntimeError("sockets and pipes live in real time; this loop's time is virtual")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Events:
        return self._next_events(timeout)

    def wait(self, timeout: float) -> Events:
        return super().select(timeout)
