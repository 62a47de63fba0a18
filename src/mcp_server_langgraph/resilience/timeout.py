"""Timeout: stop waiting, and know that it was we who stopped.

Outside a retry a `Timeout` is *total*: a deadline that everything inside inherits (`deadline`). Inside one it is *per
attempt*: it cuts that attempt and is not inherited. Either way it never exceeds what is left of the deadline of the
caller, whose expiry is told apart: our own is a failure of the dependency, the caller's is neutral.

The semantics are those of ``asyncio.timeout`` (`_timers` has the mechanism and its cost).

Errors: `TimedOut` (also a TimeoutError); `DeadlineExceeded` where nothing was left and the call was not begun.
Events: ``timeout``. Metrics: ``timeout_violations_total``, ``timeout_duration_seconds``.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from . import _stack, config, events
from ._timers import Stay, Task, TimerQueue, queue_for, queues_of
from .deadline import INHERITED, Deadline, current_deadline
from .errors import ConfigurationError, DeadlineExceeded, TimedOut
from .metrics import Histogram, Sample
from .outcome import DOWN, NEUTRAL, Verdict
from .policy import Guard, Policy, Site

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

    def __init__(self, seconds: float | None = None, *, first_item: float | None = None, idle: float | None = None):
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
        return {"seconds": self.seconds, **{name: value for name, value in clocks.items() if value is not None}}

    def bind(self, site: Site) -> Guard:
        """Per attempt inside a retry, total outside."""
        self.per_attempt = site.inside_retry
        if site.inside_retry:
            return AttemptGuard(self, site)
        site.total = TotalGuard(self, site)
        return site.total


class TimeGuard(Guard):
    """What both kinds of timeout share."""

    clock: ClassVar[str] = "total"

    def __init__(self, policy: Timeout, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = self.counts = _TimeoutMeter(site)

    def cut(self, exc: BaseException, clock: str, seconds: float) -> TimedOut:
        """Count a cut, and give what to raise."""
        self.counts.violations += 1
        self.counts.durations.observe(seconds)
        events.emit("timeout", self.site.name, operation=self.site.operation, seconds=seconds, clock=clock)
        return TimedOut(self.site.name, seconds, clock)


class AttemptGuard(TimeGuard):
    """Cuts one attempt. The cheapest path keys the timer by the task itself and reads the context once."""

    clock = "attempt"

    def __init__(self, policy: Timeout, site: Site) -> None:
        super().__init__(policy, site)
        self.queue: TimerQueue | None = None

    def enter(self, now: float) -> Stay | Task:
        task = current_task()
        queue = self.queue
        seconds = self.policy.seconds
        if (
            task is None
            or queue is None
            or queue.seconds != seconds
            or queue.loop is not task.get_loop()
            or task in queue.entries
            or task.cancelling()
            or INHERITED.get() is not None
        ):
            return self._enter_slowly(_needed(task), now)
        queue.entries[task] = when = now + seconds
        if queue.handle is None:
            queue.schedule(when)
        return task

    def _enter_slowly(self, task: Task, now: float) -> Stay | Task:
        """The first call on a loop, re-entry of one task, a task being cancelled, or an inherited deadline."""
        seconds = self.policy.seconds
        loop = task.get_loop()
        self.queue = queue_for(loop, seconds)
        deadline = current_deadline()
        if deadline is not None:
            left = deadline.when - now
            if left <= 0:
                raise DeadlineExceeded(self.site.name)
            if left < seconds and deadline.task is not task:
                inherited = InheritedStay(task)
                inherited.arm_at(loop, deadline.when)
                return inherited
        if self.queue is not None and task not in self.queue.entries and not task.cancelling():
            self.queue.add(task, now + seconds)
            return task
        stay = Stay(task)
        stay.arm(loop, seconds, now)
        return stay

    def succeeded(self, token: Stay | Task, now: float) -> None:
        queue = self.queue
        if queue is None or queue.entries.pop(token, None) is None:
            self._ended(token)

    def failed(self, token: Stay | Task, now: float, exc: BaseException) -> BaseException | None:
        if not self._ended(token) or not isinstance(exc, asyncio.CancelledError):
            return None
        if isinstance(token, InheritedStay):
            return self.cut(exc, "inherited", self.policy.seconds)
        return self.cut(exc, "attempt", self.policy.seconds)

    def _ended(self, token: Stay | Task) -> bool:
        """End the stay wherever it is timed; True if we cut it."""
        if isinstance(token, Stay):
            return token.ended()
        queue = self.queue
        if queue is None or not (token in queue.entries or token in queue.fired):
            return _ended_anywhere(token)
        return queue.ended(token)


class InheritedStay(Stay):
    """A stay that ends with the caller's deadline, in a task that the deadline's own timer does not cut."""

    __slots__ = ()


class TotalGuard(TimeGuard):
    """A deadline for everything inside."""

    def enter(self, now: float) -> Deadline:
        task = _needed(current_task())
        parent = current_deadline()
        deadline = Deadline(task, now + self.policy.seconds, self)
        if parent is not None and parent.when <= now:
            raise DeadlineExceeded(self.site.name)
        deadline.open(parent)
        loop = task.get_loop()
        if not deadline.inherited:
            deadline.arm(loop, self.policy.seconds, now)
        elif parent is not None and parent.task is not task:
            deadline.arm_at(loop, deadline.when)
        return deadline

    def succeeded(self, token: Deadline, now: float) -> None:
        token.close()

    def failed(self, token: Deadline, now: float, exc: BaseException) -> BaseException | None:
        if not token.close() or not isinstance(exc, asyncio.CancelledError):
            return None
        return self.cut(exc, "inherited" if token.inherited else "total", self.policy.seconds)

    def verdict(self, deadline: Deadline | None) -> Verdict:
        """What a cancellation means inside: a failure where this very guard's own time ran out."""
        while deadline is not None and deadline.owner is not self:
            deadline = deadline.parent
        own = deadline is not None and deadline.fired and not deadline.inherited
        return DOWN if own else NEUTRAL


class _TimeoutMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.violations = 0
        self.durations = Histogram()

    def samples(self) -> Iterator[Sample]:
        labels = (self.site.name, self.site.operation)
        yield Sample("timeout_violations_total", labels, self.violations)
        yield Sample("timeout_duration_seconds", labels, self.durations.value())


class timeout:  # noqa: N801 (the shape and the spelling of asyncio.timeout)
    """``async with timeout(seconds): ...``: a deadline that everything inside inherits.

    The shape of ``asyncio.timeout``: ``when()``, ``reschedule(when)``, ``expired()``. ``seconds`` None: no limit of its
    own. Raises `TimedOut`, also a TimeoutError, at the end of the block where the time ran out in it; RuntimeError
    outside a task or where it is entered twice.
    """

    def __init__(self, seconds: float | None, *, name: str = "timeout", clock: str = "total") -> None:
        self._seconds = seconds
        self._name = name
        self._clock = clock
        self._deadline: Deadline | None = None
        self._over = False

    def when(self) -> float | None:
        """The loop's time at which it ends; None where it has no limit."""
        if self._deadline is None or self._seconds is None:
            return None
        return self._deadline.when

    def reschedule(self, when: float | None) -> None:
        """Move the end. Raises RuntimeError where the block has not begun or is over."""
        deadline = self._deadline
        if deadline is None or self._over or deadline.fired:
            raise RuntimeError("a timeout can be moved only while its block runs")
        deadline.disarm()
        self._seconds = None if when is None else 0.0
        deadline.when = float("inf") if when is None else when
        if when is not None:
            deadline.arm_at(deadline.task.get_loop(), when)

    def expired(self) -> bool:
        """Whether the time ran out in the block."""
        return self._deadline is not None and self._deadline.fired

    async def __aenter__(self) -> timeout:
        if self._deadline is not None:
            raise RuntimeError("a timeout can be entered only once")
        task = _needed(current_task())
        loop = task.get_loop()
        now = loop.time()
        seconds = self._seconds
        deadline = self._deadline = Deadline(task, float("inf") if seconds is None else now + seconds, self)
        parent = current_deadline()
        deadline.open(parent)
        if seconds is not None and not deadline.inherited:
            deadline.arm(loop, max(0.0, seconds), now)
        elif deadline.inherited and parent is not None and parent.task is not task:
            deadline.arm_at(loop, deadline.when)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        deadline = self._deadline
        assert deadline is not None
        self._over = True
        if deadline.close() and isinstance(exc, asyncio.CancelledError):
            clock = "inherited" if deadline.inherited else self._clock
            raise TimedOut(self._name, self._seconds or 0.0, clock) from exc


def _needed(task: Task | None) -> Task:
    if task is None:
        raise RuntimeError("a timeout needs a running task")
    return task


def _ended_anywhere(task: Task) -> bool:
    """End a stay keyed by its task in whichever queue of its loop holds it (the length changed in between)."""
    return any(queue.ended(task) for queue in queues_of(task.get_loop()) if task in queue.entries or task in queue.fired)


def with_timeout(seconds: float | None = None, **options: Any) -> Callable[[F], F]:
    """Decorate a function with a timeout (see `Timeout`): per attempt below a retry, else total.

    Raises TypeError at decoration of a plain ``def``, which cannot be cut.
    """

    def decorate(fn: F) -> F:
        return _stack.add(Timeout(seconds, **options), fn)

    return decorate
