"""A timeout at work in one pipeline: the guard that cuts an attempt, and the one whose deadline all inside inherits.

Each writes its part of the frame out (`_inline`): the lines know the shortest way, and leave all others to the methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from . import events
from ._inline import Inline, Lines
from ._late import expired
from ._machines.timers import NOWHERE, Stay, Task, TimerQueue, queue_for, running_task
from .deadline import INHERITED, Deadline, current_deadline
from .errors import TimedOut
from .metrics import Histogram, Sample
from .policy import Guard, Repeat, Site

if TYPE_CHECKING:
    from .timeout import Timeout


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
        task = running_task()
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


class DeadlineGuard(TimeGuard):
    """Whose clock is a deadline's."""

    def started(self, now: float, seconds: float) -> Deadline:
        """A deadline under the one that binds this task, its clock running; not yet the context's."""
        task = running_task()
        parent = current_deadline()
        if parent is not None and parent.when <= now:
            raise expired(self.site.name)
        loop = task.get_loop()
        deadline = Deadline(task, now + seconds, self, parent)
        deadline.seconds = seconds
        deadline.start(loop, self.queue_of(loop, seconds))
        return deadline

    def queue_of(self, loop: asyncio.AbstractEventLoop, seconds: float) -> TimerQueue | None:
        """Where its clock runs; None: a timer of its own."""
        return self.find_queue(loop, seconds)

    def succeeded(self, token: Deadline, now: float) -> None:
        token.close()

    def failed(self, token: Deadline, now: float, exc: BaseException) -> BaseException | None:
        if not token.close() or not isinstance(exc, asyncio.CancelledError):
            return None
        if token.inherited:
            return self.cut("inherited", now - token.end + token.seconds)
        return self.cut(self.clock, token.seconds)


class TotalGuard(DeadlineGuard):
    """A deadline for everything inside."""

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        names = {"guard": self, "policy": self.policy, "inherited": INHERITED, "deadline": _OwnDeadline}
        return Inline(_TOTAL, {**names, "nowhere": NOWHERE})

    def enter(self, now: float) -> Deadline:
        """The first call on a loop, a task being cancelled, a deadline around this one: all of them."""
        return self.opened(now, self.policy.seconds)

    def opened(self, now: float, seconds: float) -> Deadline:
        """A deadline that is the context's from now on."""
        deadline = self.started(now, seconds)
        if deadline.parent is None:
            INHERITED.set(deadline)
        else:
            deadline.open()
        return deadline

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
