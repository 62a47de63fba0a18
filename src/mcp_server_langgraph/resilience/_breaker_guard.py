"""A circuit breaker at work in one pipeline: asks the machine, counts, and tells of transitions.

In the closed state's success path there is no lock: one identity check lets a call in, and one lets its success go.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import events
from ._inline import Inline, Lines
from ._machines.breaker_state import Admission, Mode, State
from .errors import CircuitOpen
from .outcome import NEUTRAL, Outcome, Verdict
from .policy import (
    BadResult,
    Call,
    Guard,
    Policy,
    Proceed,
    ProceedStream,
    ProceedSync,
    Repeat,
    Site,
)

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

_AUTOMATIC: Final = Mode.AUTOMATIC
_OPEN: Final = State.OPEN
_MACHINE_ASKED: Final = (Mode.AUTOMATIC, Mode.METRICS_ONLY)
_REFUSING: Final = (Mode.AUTOMATIC, Mode.FORCED_OPEN)


_LINES: Final = Lines(
    enter="""
token$ = machine$.door
if token$ is None: token$ = enter_slowly$(now)
""",
    success="""
if token$ is machine$.door and machine$.quiet: counts$.successes += 1
else: succeeded$(token$, now)
""",
    refusal="None if machine$.door is not None else refuses$(now)",
)


# Bound once, as every call asks while the circuit is open.
_LEVEL: Final = logging.DEBUG
_hears: Final = events.remembered_levels.get


class BreakerGuard(Guard):
    """Lets calls in, and hears how they ended."""

    __slots__ = ("breaker", "counts", "machine", "meter", "site")

    def __init__(self, breaker: CircuitBreaker, site: Site) -> None:
        self.breaker = breaker
        self.machine = breaker.machine
        self.counts = breaker.counts
        self.meter = breaker.counts
        self.site = site

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        slow = {"enter_slowly": self.enter_slowly, "refuses": self.refuses}
        return Inline(_LINES, {"machine": self.machine, "counts": self.counts, **slow})

    def enter(self, now: float) -> Admission | None:
        door = self.machine.door
        return self.enter_slowly(now) if door is None else door

    def enter_slowly(self, now: float) -> Admission | None:
        """The way in where there is no open door: the machine is asked, or the call refused at once."""
        refusal = self.refuses(now)
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # an exception kept in its own frame is a cycle
        return self._ask(now)

    def refuses(self, now: float) -> CircuitOpen | None:
        """What to raise where calls are refused without asking the machine; it is counted. None: it has to be asked."""
        machine = self.machine
        if not machine.automatic or machine.state is not _OPEN:
            return None
        left = machine.open_until - now
        if left <= 0:
            return None
        # As `_refusal`, without its call: this is the way of every call while the circuit is open.
        self.counts.rejected += 1
        if events.listeners or _hears(_LEVEL, True):
            self._tell()
        return CircuitOpen(self.breaker.name or "unnamed", left)

    def _refusal(self, retry_after: float | None) -> CircuitOpen:
        self.counts.rejected += 1
        self._tell()
        return CircuitOpen(self.breaker.label, retry_after)

    def _tell(self) -> None:
        events.emit("rejected", self.breaker.label, policy=CircuitOpen.policy)

    def _ask(self, now: float) -> Admission | None:
        breaker, machine = self.breaker, self.machine
        wait = None
        with breaker.lock:
            before, mode = machine.state, breaker.mode
            admission = machine.admit(now) if mode in _MACHINE_ASKED else None
            refused = admission is None and mode in _REFUSING
            if refused:
                wait = machine.retry_after(now) if mode is _AUTOMATIC else None
            elif admission is None and mode is Mode.METRICS_ONLY:
                self.counts.would_reject += 1
            change = None if machine.state is before else breaker.changed_from(before)
        if change is not None:
            breaker.tell_change(*change)
        if refused:
            raise self._refusal(wait)
        return admission

    def succeeded(self, token: Admission | None, now: float) -> None:
        machine = self.machine
        if token is machine.door and machine.quiet:
            self.counts.successes += 1
        elif self.breaker.mode is not Mode.DISABLED:
            self._succeeded_slowly(token, now)

    def _succeeded_slowly(self, token: Admission | None, now: float) -> None:
        breaker, machine = self.breaker, self.machine
        with breaker.lock:
            before = machine.state
            self.counts.successes += 1
            if token is not None:
                machine.succeeded(token, now)
            change = None if machine.state is before else breaker.changed_from(before)
        if change is not None:
            breaker.tell_change(*change)
        if machine.heard:
            breaker.listeners.success()

    def failed(self, token: Admission | None, now: float, exc: BaseException) -> None:
        breaker = self.breaker
        if breaker.mode is Mode.DISABLED:
            return
        verdict = self._verdict(exc)
        failure = verdict.outcome is Outcome.FAILURE
        with breaker.lock:
            before = self.machine.state
            if failure:
                self.counts.failure(exc)
                if token is not None:
                    self.machine.failed(token, now, verdict.retry_after)
            else:
                self.counts.neutral += 1
                if token is not None:
                    self.machine.abandoned(token)
            change = None if self.machine.state is before else breaker.changed_from(before)
        if failure:
            breaker.listeners.failure(exc)
        if change is not None:
            breaker.tell_change(*change)

    def first_item_came(self, token: Admission | None, now: float) -> None:
        """The first item of a stream came: what follows is the consumer's time too, and makes no call slow."""
        if token is not None and token is not self.machine.closed:
            with self.breaker.lock:
                self.machine.first_item_came(token, now)

    def refuses_for(self, now: float) -> float:
        """Seconds for which every call will be refused."""
        if self.breaker.mode is Mode.FORCED_OPEN:
            return math.inf
        return self.machine.refuses_for(now) if self.breaker.mode is _AUTOMATIC else 0.0

    def _verdict(self, exc: BaseException) -> Verdict:
        expected = self.breaker.expected
        if isinstance(exc, Exception) and not isinstance(exc, (*expected, BadResult)):
            return NEUTRAL
        return self.site.verdict(exc)


class Announced(Policy):
    """A breaker whose listeners are told of each call it lets in, with the function and its arguments."""

    kind = "circuit_breaker"

    def __init__(self, breaker: CircuitBreaker, guard: BreakerGuard) -> None:
        self.breaker = breaker
        self.guard = guard
        self.meter = guard.meter

    async def run(self, call: Call, proceed: Proceed) -> Any:
        def announced(call: Call) -> Awaitable[Any]:
            self.breaker.listeners.before_call(call)
            return proceed(call)

        return await self.guard.run(call, announced)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        def announced(call: Call) -> Any:
            self.breaker.listeners.before_call(call)
            return proceed(call)

        return self.guard.run_sync(call, announced)

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        clock = asyncio.get_running_loop().time
        token = self.guard.enter(clock())
        self.breaker.listeners.before_call(call)
        source = proceed(call)
        try:
            item = await anext(source)
            self.guard.first_item_came(token, clock())
            while True:
                item = await source.asend((yield item))
        except StopAsyncIteration:
            self.guard.succeeded(token, clock())
        except BaseException as exc:
            self.guard.failed(token, clock(), exc)
            raise
        finally:
            await source.aclose()
