"""The same work written by hand for one function, as tightly as Python allows: the lower bound for the pipeline.

Counter bulkhead with a FIFO line, breaker that trips on consecutive failures and tells stale results by their
admission, retry loop with counters, timeouts of one length in a dict with one shared timer, latency histogram. What
the layer has beyond it: settings that change at run time, classified outcomes, operators' modes, inherited deadlines,
a bounded line, safety across threads and loops, re-entry by one task, listeners and events.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task, get_running_loop
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from mcp_server_langgraph.resilience.metrics import LATENCY_BOUNDS

from ._stacks import ALL_FOUR, Fn, Guarded, Job, Limits, Stack

__all__ = ["HAND_FUSED"]

OPEN_FOR: Final = 60.0


class Refused(Exception):
    """The breaker is open."""


class State:
    """Everything that the calls share."""

    __slots__ = (
        *("active", "closed", "counts", "entries", "failures", "fired", "first", "handle", "later", "limits"),
        *("opened_at", "probe", "sum", "successes", "waiting"),
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.active = self.failures = self.successes = self.first = self.later = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.closed: object | None = object()
        self.probe: object | None = None
        self.opened_at = 0.0
        self.entries: dict[asyncio.Task[Any], float] = {}
        self.fired: set[asyncio.Task[Any]] = set()
        self.handle: asyncio.TimerHandle | None = None
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.sum = 0.0

    async def wait_for_place(self) -> None:
        waiter = get_running_loop().create_future()
        self.waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_place_back()
            raise

    def give_place_back(self) -> None:
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.active -= 1

    def admit(self, now: float) -> object:
        """Where the breaker is not closed: one probe once it was open for long enough."""
        if self.probe is not None or now < self.opened_at + OPEN_FOR:
            raise Refused
        self.probe = object()
        return self.probe

    def succeeded(self, admission: object) -> None:
        """An attempt succeeded that was let in by an earlier closed period, or as the probe."""
        if admission is self.probe:
            self.probe = None
            self.closed = object()
            self.failures = 0

    def failed(self, admission: object, now: float) -> None:
        if admission is self.closed:
            self.failures += 1
        elif admission is not self.probe:
            return
        if admission is self.probe or self.failures >= self.limits.fail_max:
            self.probe = self.closed = None
            self.opened_at = now

    def abandoned(self, admission: object) -> None:
        if admission is self.probe:
            self.probe = None

    def expire(self) -> None:
        self.handle = None
        loop = get_running_loop()
        now = loop.time()
        while self.entries:
            task, when = next(iter(self.entries.items()))
            if when > now:
                self.handle = loop.call_at(when, self.expire)
                return
            del self.entries[task]
            self.fired.add(task)
            task.cancel()

    def cut(self, task: asyncio.Task[Any]) -> bool:
        """End the stay of a failed attempt; True if it was we who cut it."""
        if self.entries.pop(task, None) is not None or task not in self.fired:
            return False
        self.fired.discard(task)
        return task.uncancel() <= 0

    def numbers(self) -> Mapping[str, float]:
        return {
            "resilience_calls_total": sum(self.counts),
            "circuit_breaker_success_total": self.successes,
            "retry_attempts_total": self.first + self.later,
            "bulkhead_active_operations": self.active,
        }


def hand_fused(fn: Fn, limits: Limits) -> Guarded:
    state = State(limits)
    attempts, seconds, limit = limits.attempts, limits.seconds, limits.limit
    bounds, counts, entries = LATENCY_BOUNDS, state.counts, state.entries

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        loop = get_running_loop()
        task = current_task()
        assert task is not None
        started = now = loop.time()
        if state.active >= limit:
            await state.wait_for_place()
            now = loop.time()
        else:
            state.active += 1
        try:
            state.first += 1
            attempt = 1
            while True:
                admission = state.closed or state.admit(now)
                entries[task] = when = now + seconds
                if state.handle is None:
                    state.handle = loop.call_at(when, state.expire)
                try:
                    result = await fn(*args, **kwargs)
                except BaseException as exc:
                    cut = state.cut(task) and isinstance(exc, asyncio.CancelledError)
                    if cut or isinstance(exc, Exception):
                        state.failed(admission, loop.time())
                    else:
                        state.abandoned(admission)
                    if cut:
                        raise TimeoutError from exc
                    if attempt >= attempts or not isinstance(exc, ConnectionError):
                        raise
                else:
                    del entries[task]
                    now = loop.time()
                    state.successes += 1
                    if admission is not state.closed:
                        state.succeeded(admission)
                    elif state.failures:
                        state.failures = 0
                    break
                await asyncio.sleep(0)
                attempt += 1
                state.later += 1
                now = loop.time()
        finally:
            if state.waiting:
                state.give_place_back()
            else:
                state.active -= 1
        elapsed = now - started
        counts[bisect_left(bounds, elapsed)] += 1
        state.sum += elapsed
        return result

    return Guarded(guarded, state.numbers)


HAND_FUSED: Final = Stack("the same work, fused by hand", hand_fused, ALL_FOUR | {Job.COUNTS})
