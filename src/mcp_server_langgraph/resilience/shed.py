"""Shed: refuse at the door, while refusing is still cheap, what an overloaded process could only serve late.

A process that takes in more than it can do gets slower for everybody, until all answers come after their callers have
gone. So lateness itself is watched: that of the event loop (a timer that should have fired a while ago), and that of
the calls (how long they have waited before they came here). While one of them is too large, a part of the calls is
refused, those that matter least first, `CRITICAL_PLUS` last; the more, the later things are (`_machines.lag`).

The loop's lag is what CPU use is to threads: it is the queue before the one processor an event loop has. Memory is not
watched: the peak that ``resource.getrusage`` gives never comes down again, so it would shed for ever, and a container's
limit is the platform's to know.

Errors: `Overloaded`. Events: ``state_change`` when shedding begins and ends. Metrics: ``shed_total``,
``loop_lag_seconds``. Source: DAGOR (see `_machines.lag`); B. Beyer et al., "Site Reliability Engineering", ch. 21
(criticality) and 22 (answers that tell not to retry).
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from . import config, events
from ._checks import checked_time
from ._machines.lag import Door, MeanDelay
from .criticality import Criticality, current_criticality
from .errors import Overloaded
from .metrics import Sample
from .policy import Guard, Policy, Site

__all__ = ["Shed", "ShedSnapshot"]

# Seconds between two looks at the loop: ten make a window's mean.
INTERVAL: Final = 0.1
# Looks without a call after which nobody is looked after: the next call begins anew.
IDLE: Final = 20


@dataclass(frozen=True, slots=True)
class ShedSnapshot:
    """Shedding at one moment.

    ``threshold``: 0 lets everything in; 1.3 nothing SHEDDABLE and 70 % of SHEDDABLE_PLUS. ``lag`` and ``queue_delay``
    are means of the last window, in seconds; ``shed`` counts by criticality.
    """

    threshold: float
    lag: float
    queue_delay: float
    shed: Mapping[str, int]


class Shed(Policy):
    """Refuses a part of the calls, the least critical first, while this process is late.

    ``max_lag`` (0.05): the mean lag of the event loop, in seconds, above which it sheds. ``max_queue_delay`` (0.02):
    the same for the time that calls have waited before they came here, as ``queue_delay`` tells (a function that gives
    the seconds, from a header or a scope of the server for example; None where it knows nothing). ``retry_after`` (1):
    what callers are told. ``chance``: random numbers from 0 up to 1.

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "shed"

    def __init__(
        self,
        max_lag: float | None = None,
        max_queue_delay: float | None = None,
        *,
        queue_delay: Callable[[], float | None] | None = None,
        retry_after: float = 1.0,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        for label, value in (("max_lag", max_lag), ("max_queue_delay", max_queue_delay)):
            checked_time("Shed", label, value)
        checked_time("Shed", "retry_after", retry_after)
        self.name = name
        self._explicit = (max_lag, max_queue_delay)
        self._queue_delay = queue_delay
        self._chance = chance
        self.retry_after = retry_after
        self.door = Door(len(Criticality))
        self.lag = MeanDelay(1.0)
        self.waits = MeanDelay(1.0)
        self.counts = _ShedMeter(self)
        self._probes: dict[asyncio.AbstractEventLoop, _Probe] = {}
        self._lock = threading.Lock()
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; what is let in now stays."""
        max_lag, max_queue_delay = self._explicit
        self.lag.allowed = settings.choose(service, "SHED_MAX_LAG", max_lag)
        self.waits.allowed = settings.choose(service, "SHED_MAX_QUEUE_DELAY", max_queue_delay)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        return {
            "max_lag": self.lag.allowed,
            "max_queue_delay": self.waits.allowed,
            "retry_after": self.retry_after,
        }

    def snapshot(self) -> ShedSnapshot:
        """The state now."""
        shed = {level.name: count for level, count in zip(Criticality, self.counts.shed, strict=True)}
        return ShedSnapshot(self.door.threshold, self.lag.last, self.waits.last, shed)

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline. Without a name of its own it takes the first pipeline's."""
        self.name = self.name or site.name
        site.saturation.append(lambda: self.door.threshold > 0)
        return _ShedGuard(self, site)

    def admit(self, now: float) -> bool:
        """Whether a call that comes now may pass."""
        self._look()
        if self._queue_delay is not None:
            waited = self._queue_delay()
            if waited is not None:
                self.waits.add(waited)
        if self.door.due(now):
            self._close(now)
        level = current_criticality()
        if self.door.lets_in(level, self._chance()):
            return True
        with self._lock:
            self.counts.shed[level] += 1
        return False

    def _close(self, now: float) -> None:
        """Close the window. Who finds another thread at it goes on."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            before = self.door.threshold
            self.door.close(now, max(self.lag.close(), self.waits.close()))
            after = self.door.threshold
        finally:
            self._lock.release()
        if (before > 0) is not (after > 0):
            state = "shedding" if after else "open"
            events.emit("state_change", self.name or "shed", policy="shed", state=state, lag=self.lag.last)

    def _look(self) -> None:
        """See to it that the lag of the running loop is looked at."""
        loop = asyncio._get_running_loop()
        if loop is None:
            return
        probe = self._probes.get(loop)
        if probe is None:
            probe = self._adopt(loop)
        probe.idle = 0
        if probe.handle is None:
            probe.start()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> _Probe:
        with self._lock:
            for other in [other for other in self._probes if other.is_closed()]:
                del self._probes[other]
            return self._probes.setdefault(loop, _Probe(loop, self.lag))


class _Probe:
    """A timer of one loop that looks how late it is. It is no task, keeps no loop running, and ends when idle."""

    __slots__ = ("_due", "handle", "idle", "lag", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, lag: MeanDelay) -> None:
        self.loop = loop
        self.lag = lag
        self.idle = 0
        self._due = 0.0
        self.handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look again in a while."""
        self._due = self.loop.time() + INTERVAL
        self.handle = self.loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self.handle = None
        self.lag.add(max(0.0, self.loop.time() - self._due))
        self.idle += 1
        if self.idle < IDLE:
            self.start()


class _ShedGuard(Guard):
    gives_way = True

    def __init__(self, policy: Shed, site: Site) -> None:
        self.policy = policy
        self.meter = policy.counts
        self.site = site

    def enter(self, now: float) -> None:
        if not self.policy.admit(now):
            events.emit("rejected", self.site.name, policy="shed")
            raise Overloaded(self.policy.name or self.site.name, self.policy.retry_after)


class _ShedMeter:
    def __init__(self, policy: Shed) -> None:
        self.policy = policy
        self.shed = [0] * len(Criticality)

    def samples(self) -> Iterator[Sample]:
        name = self.policy.label
        yield Sample("loop_lag_seconds", (name,), self.policy.lag.last)
        for level in Criticality:
            yield Sample("shed_total", (name, level.name), self.shed[level])
