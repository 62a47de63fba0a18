"""Timeout: stop waiting, and know that it was we who stopped.

Outside a retry a `Timeout` is *total*: a deadline that everything inside inherits (`deadline`). Inside one it is *per
attempt*: it cuts that attempt and is not inherited. Either way it never exceeds what is left of the deadline of the
caller, whose expiry is told apart: our own is a failure of the dependency, the caller's is neutral.

The semantics are those of ``asyncio.timeout`` (`_timers` has the mechanism and its cost).

Errors: `TimedOut` (also a TimeoutError); `DeadlineExceeded` where nothing was left and the call was not begun.
Events: ``timeout``. Metrics: ``timeout_violations_total``, ``timeout_duration_seconds``,
``deadline_expired_total``.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import current_task
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Final, TypeVar, cast

from . import _stack, config, events
from ._inline import Inline, Lines
from ._timers import NOWHERE, Stay, Task, TimerQueue, queue_for
from .deadline import INHERITED, Deadline, current_deadline
from .errors import ConfigurationError, TimedOut
from .metrics import Histogram, Sample
from .policy import Cost, Guard, Policy, Repeat, Site
from .propagation import expired

__all__ = ["Timeout", "timeout", "with_timeout"]

F = TypeVar("F", bound=Callable[..., Any])


class Timeout(Policy):
    """Cut a call after ``seconds`` (> 0; None: from the settings, by the kind of service).

    For streams: ``first_item`` bounds the wait for the first item, ``idle`` the wait between two items (seconds; None:
    only ``seconds`` binds, which then is the time of the whole stream).

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "timeout"
    refuses_sync = "a timeout cannot cut a plain function; make it async def"

    def __init__(
        self, seconds: float | None = None, *, first_item: float | None = None, idle: float | None = None
    ):
        for label, value in (("seconds", seconds), ("first_item", first_item), ("idle", idle)):
            if value is not None and not value > 0:
                raise ConfigurationError(f"Timeout: {label}={value!r} must be above 0 seconds")
        self._explicit = seconds
        self.seconds: float = seconds or config.current().timeout("")
        self.first_item = first_item
        self.idle = idle
        self.per_attempt = False

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for calls that begin from now on."""
        if self.per_attempt:
            self.seconds = settings.attempt_timeout(service, self._explicit) or settings.timeout(service)
        else:
            self.seconds = settings.timeout(service, self._explicit)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        clocks = {"first_item": self.first_item, "idle": self.idle}
        return {
            "seconds": self.seconds,
            **{name: value for name, value in clocks.items() if value is not None},
        }

    def worst_case(self, inner: Cost) -> Cost:
        """No longer than the time that it allows."""
        return inner._replace(seconds=min(inner.seconds, self.seconds))

    def bind(self, site: Site) -> Guard:
        """Per attempt inside a retry, total outside."""
        self.per_attempt = site.inside_retry
        if site.inside_retry:
            return AttemptGuard(self, site)
        total = TotalGuard(self, site)
        site.totals.append(total)
        return total


class TimeGuard(Guard):
    """What both kinds of timeout share."""

    clock: ClassVar[str] = "total"
    gives_way = True

    def __init__(self, policy: Timeout, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.queue = NOWHERE
        self.meter = self.counts = _TimeoutMeter(site)

    def cut(self, clock: str, seconds: float) -> TimedOut:
        """Count a cut, and give what to raise."""
        self.counts.violations += 1
        self.counts.durations.observe(seconds)
        events.emit("timeout", self.site.name, operation=self.site.operation, seconds=seconds, clock=clock)
        return TimedOut(self.site.name, seconds, clock)

    def find_queue(self, loop: asyncio.AbstractEventLoop, seconds: float) -> TimerQueue:
        """The queue of that length, remembered; one of its own where the loop has too many lengths."""
        queue = self.queue
        if queue.seconds != seconds or queue.loop is not loop:
            queue = self.queue = queue_for(loop, seconds) or TimerQueue(loop, seconds)
        return queue


# What is timed, and where: a task keyed by itself, or a stay. The queue is part of it, because the length may change
# (and another loop come by) while calls are in flight.
_Timed = tuple[Stay | Task, TimerQueue]

# The cheapest path keys the timer by the task itself. A deadline that this task opened, and that is open, cuts it by
# itself; one that is closed, and stands under no other, binds nobody.
_ATTEMPT_ENTERS: Final = """
queue$ = guard$.queue
if (quick and queue$.loop is loop and queue$.seconds == policy$.seconds and task not in queue$.entries{unbound}):
    queue$.entries[task] = end$ = now + queue$.seconds
    if queue$.handle is None: queue$.schedule(end$)
    token$ = None
else:
    token$ = enter$(now)
"""
_UNBOUND: Final = """
    and ((deadline$ := inherited$.get()) is None or (
        deadline$.end > now if deadline$.task is task else deadline$.task is None and deadline$.parent is None))"""
_ATTEMPT_SUCCEEDS: Final = """
if token$ is None:
    try: del queue$.entries[task]
    except KeyError: succeeded$((task, queue$), now)
else:
    succeeded$(token$, now)
"""
_ATTEMPT: Final = Lines(
    _ATTEMPT_ENTERS.format(unbound=_UNBOUND),
    _ATTEMPT_SUCCEEDS,
    token="(task, queue$) if token$ is None else token$",
    task=True,
)
# Under a total timeout of the same frame, whose deadline is this task's own, and was not over when the call entered.
_ATTEMPT_UNDER_TOTAL: Final = _ATTEMPT._replace(enter=_ATTEMPT_ENTERS.format(unbound=""))


class AttemptGuard(TimeGuard):
    """Cuts one attempt."""

    clock = "attempt"

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        covered = any(isinstance(other, TotalGuard) for other in outer)
        names = {"guard": self, "policy": self.policy, "inherited": INHERITED}
        return Inline(_ATTEMPT_UNDER_TOTAL if covered else _ATTEMPT, names)

    def enter(self, now: float) -> _Timed:
        """The first call on a loop, re-entry of one task, a task being cancelled, a deadline of another task: all of
        them.
        """
        task = _needed(current_task())
        seconds = self.policy.seconds
        loop = task.get_loop()
        queue = self.find_queue(loop, seconds)
        when = now + seconds
        deadline = current_deadline()
        if deadline is not None and deadline.when <= now:
            raise expired(self.site.name)
        if deadline is not None and deadline.task is not task:
            inheriting = Deadline(task, when, self, deadline)
            inheriting.start(loop, queue)
            return inheriting, queue
        if task in queue.entries or task.cancelling():
            stay = Stay(task)
            stay.arm_in(queue, when)
            return stay, queue
        queue.add(task, when)
        return task, queue

    def succeeded(self, token: _Timed, now: float) -> None:
        entry, queue = token
        if queue.entries.pop(entry, None) is None:
            _ended(entry, queue)

    def failed(self, token: _Timed, now: float, exc: BaseException) -> BaseException | None:
        entry, queue = token
        if not _ended(entry, queue) or not isinstance(exc, asyncio.CancelledError):
            return None
        if isinstance(entry, Deadline) and entry.inherited:
            return self.cut("inherited", now - entry.end + queue.seconds)
        return self.cut("attempt", queue.seconds)


def _ended(entry: Stay | Task, queue: TimerQueue) -> bool:
    """End a stay; True if we cut it."""
    return entry.ended() if isinstance(entry, Stay) else queue.ended(entry)


# Under no other deadline, on a loop that is known: one object, one entry in the queue of its length, one setting of the
# context. Setting that back would cost as much again; see `deadline` for why it need not be.
_TOTAL: Final = Lines(
    enter="""
queue$ = guard$.queue
outer$ = inherited$.get()
if (quick and queue$.loop is loop and queue$.seconds == policy$.seconds
    and (outer$ is None or outer$.task is None and outer$.parent is None)):
    token$ = deadline$()
    token$.task = task
    token$.owner = guard$
    token$.queue = queue$
    token$.seconds = queue$.seconds
    token$.end = queue$.entries[token$] = now + queue$.seconds
    token$.parent = token$.reset = token$.handle = None
    token$.fired = token$.inherited = False
    token$.cancelling = 0
    if queue$.handle is None: queue$.schedule(token$.end)
    inherited$.set(token$)
else:
    token$ = enter$(now)
    queue$ = nowhere$
""",
    success="""
if queue$ is nowhere$:
    succeeded$(token$, now)
else:
    try: del queue$.entries[token$]
    except KeyError: succeeded$(token$, now)
    else: token$.task = token$.owner = token$.queue = None
""",
    task=True,
)


class _OwnDeadline(Deadline):
    """One whose fields are all set where it is made, in the frame of a call: that saves a call for each."""

    __slots__ = ()

    __init__ = cast(Any, object.__init__)


class TotalGuard(TimeGuard):
    """A deadline for everything inside."""

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        names = {"guard": self, "policy": self.policy, "inherited": INHERITED, "deadline": _OwnDeadline}
        return Inline(_TOTAL, {**names, "nowhere": NOWHERE})

    def enter(self, now: float) -> Deadline:
        """The first call on a loop, a task being cancelled, a deadline around this one: all of them."""
        task = _needed(current_task())
        seconds = self.policy.seconds
        loop = task.get_loop()
        parent = current_deadline()
        if parent is not None and parent.when <= now:
            raise expired(self.site.name)
        deadline = Deadline(task, now + seconds, self, parent)
        deadline.seconds = seconds
        deadline.start(loop, self.find_queue(loop, seconds))
        if parent is None:
            INHERITED.set(deadline)
        else:
            deadline.open()
        return deadline

    def succeeded(self, token: Deadline, now: float) -> None:
        token.close()

    def failed(self, token: Deadline, now: float, exc: BaseException) -> BaseException | None:
        if not token.close() or not isinstance(exc, asyncio.CancelledError):
            return None
        if token.inherited:
            return self.cut("inherited", now - token.end + token.seconds)
        return self.cut("total", token.seconds)

    def expired(self, deadline: Deadline | None) -> bool:
        """Whether this very guard's own time ran out, under ``deadline`` or one around it that are still open."""
        while deadline is not None and deadline.owner is not self:
            deadline = deadline.parent
        return deadline is not None and deadline.fired and not deadline.inherited


class _TimeoutMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.violations = 0
        self.durations = Histogram()

    def samples(self) -> Iterator[Sample]:
        labels = (self.site.name, self.site.operation)
        yield Sample("timeout_violations_total", labels, self.violations)
        yield Sample("timeout_duration_seconds", labels, self.durations.value())


# Seconds. A block entered this soon after its `timeout` was made may share the queue of its length, in which ends
# must come in order; nobody notices this much.
_AT_ONCE: Final = 0.001


class timeout:  # noqa: N801 (the shape and the spelling of asyncio.timeout)
    """``async with timeout(seconds): ...``: a deadline that everything inside inherits.

    The shape of ``asyncio.timeout``: ``when()``, ``reschedule(when)``, ``expired()``; the time runs from its making.
    ``seconds`` None: no limit of its own. ``name`` and ``clock`` are told in the error.

    Raises `TimedOut`, also a TimeoutError, at the end of the block where the time ran out in it; RuntimeError outside a
    task or where it is entered twice.
    """

    def __init__(self, seconds: float | None, *, name: str = "timeout", clock: str = "total") -> None:
        self._seconds = seconds
        self._name = name
        self._clock = clock
        self._made = asyncio.get_running_loop().time()
        self._when = None if seconds is None else self._made + seconds
        self._state = "created"
        self._deadline: Deadline | None = None

    def when(self) -> float | None:
        """The loop's time at which it ends; None where it has no limit."""
        return self._when

    def reschedule(self, when: float | None) -> None:
        """Move the end. Raises RuntimeError where the block has not begun, is over or cut."""
        deadline = self._deadline
        if deadline is None:
            raise RuntimeError("timeout has not been entered")
        if deadline.fired or self._state != "active":
            raise RuntimeError(f"cannot move the end of a timeout that is {self._told_state()}")
        self._when = when
        self._seconds = None if when is None else when - self._made
        deadline.move(math.inf if when is None else when)

    def expired(self) -> bool:
        """Whether the time ran out in the block."""
        return self._deadline is not None and self._deadline.fired

    def _told_state(self) -> str:
        if not self.expired():
            return self._state
        return "expiring" if self._state == "active" else "expired"

    def __repr__(self) -> str:
        state = self._told_state()
        when = (
            f" when={self._when if self._when is None else round(self._when, 3)}" if state == "active" else ""
        )
        return f"<Timeout [{state}]{when}>"  # to the letter what asyncio's says

    async def __aenter__(self) -> timeout:
        if self._deadline is not None:
            raise RuntimeError("timeout has already been entered")
        task = _needed(current_task())
        loop = task.get_loop()
        when = self._when
        deadline = self._deadline = Deadline(
            task, math.inf if when is None else when, self, current_deadline()
        )
        if self._seconds is None or self._seconds <= 0 or loop.time() - self._made > _AT_ONCE:
            deadline.start(loop)
        else:
            deadline.start(loop, queue_for(loop, self._seconds))
        deadline.open()
        self._state = "active"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        deadline = self._deadline
        assert deadline is not None
        self._state = "finished"
        if not deadline.close() or exc is None:
            return
        if isinstance(exc, asyncio.CancelledError):
            raise self._error(deadline) from exc
        self._tell_of_cut(exc, deadline)
        if isinstance(exc, BaseExceptionGroup):
            for each in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
                self._tell_of_cut(each, deadline)

    def _tell_of_cut(self, exc: BaseException, deadline: Deadline) -> None:
        """Where something else was raised because of the cut, put our error before the CancelledError that it came of
        (as asyncio does since 3.13).
        """
        while (context := exc.__context__) is not None:
            if isinstance(context, asyncio.CancelledError):
                error = self._error(deadline)
                error.__context__ = error.__cause__ = context
                exc.__context__ = error
                return
            exc = context

    def _error(self, deadline: Deadline) -> TimedOut:
        if self._seconds is None or deadline.inherited:
            waited = asyncio.get_running_loop().time() - self._made
            return TimedOut(self._name, waited, "inherited")
        return TimedOut(self._name, self._seconds, self._clock)


def _needed(task: Task | None) -> Task:
    if task is None:
        raise RuntimeError("a timeout needs a running task")
    return task


def with_timeout(seconds: float | None = None, **options: Any) -> Callable[[F], F]:
    """Decorate a function with a timeout (see `Timeout`): per attempt below a retry, else total.

    Raises TypeError at decoration of a plain ``def``, which cannot be cut.
    """

    _stack.refuse_bare("with_timeout", seconds)

    def decorate(fn: F) -> F:
        return _stack.add(Timeout(seconds, **options), fn)

    return decorate
