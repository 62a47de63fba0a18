"""An adaptive limit at work in one pipeline: takes places, waits in the line, and tells how calls went.

In the success path there is no lock: a place is an atomic pop, and a sample a few additions.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from . import events
from ._http_facts import status_of
from ._inline import Inline, Lines
from ._machines.admission_queue import End, Entry, LoopEntry, ThreadEntry
from .criticality import Criticality, current_criticality
from .deadline import current_deadline
from .errors import DeadlineExceeded, LimitReached, Rejected
from .metrics import Histogram, Sample
from .outcome import Outcome
from .policy import WAIT, BadResult, Guard, Repeat, Site

if TYPE_CHECKING:
    from .adaptive import AdaptiveLimit

# Request Timeout, Service Unavailable, Gateway Timeout, and the providers' "overloaded". A 429 is a quota's word,
# which says nothing about how many at once.
_OVERLOADED: Final = frozenset({408, 503, 504, 529})


_LINES: Final = Lines(
    enter="""
try:
    take$()
    token$ = now
except IndexError: token$ = WAIT
""",
    success="""
answered$(token$, now)
if places$.debt:
    give_back$(now)
else:
    put$(None)
    if places$.waiting or places$.debt: settle$(now)
""",
)


class AdaptiveGuard(Guard):
    """Lets calls in while there are places. A token is the time at which the call began."""

    waits = True

    def __init__(self, policy: AdaptiveLimit, site: Site) -> None:
        self.policy = policy
        self.limiter = policy.limiter
        self.take = policy.limiter.places.free.pop
        self.give_back = policy.limiter.places.give_back
        self.answered = policy.limiter.answered
        self.counts = policy.counts
        self.meter = policy.counts
        self.site = site

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline | None:
        places = self.limiter.places
        ends = {"give_back": self.give_back, "put": places.free.append, "settle": places.settle}
        return Inline(_LINES, {"places": places, "take": self.take, "answered": self.answered, **ends})

    def enter(self, now: float) -> object:
        try:
            self.take()
        except IndexError:
            return WAIT
        return now

    def succeeded(self, token: Any, now: float) -> None:
        self.answered(token, now)
        self.give_back(now)

    def failed(self, token: Any, now: float, exc: BaseException) -> None:
        try:
            if self._is_drop(exc):
                self.limiter.dropped(now)
        finally:
            self.give_back(now)

    def _is_drop(self, exc: BaseException) -> bool:
        """Whether the call was cut for its time, or turned away as overload, by the dependency's doing."""
        if self.site.verdict(exc).outcome is not Outcome.FAILURE:
            return False
        if isinstance(exc, (TimeoutError, asyncio.CancelledError)):
            return True
        source = exc.result if isinstance(exc, BadResult) else exc
        return status_of(source) in _OVERLOADED or any(
            "Timeout" in kind.__name__ for kind in type(exc).__mro__
        )

    async def wait(self) -> object:
        loop = asyncio.get_running_loop()
        came = loop.time()
        level = current_criticality()
        end = self._end(came, level)
        entry = LoopEntry(loop, level, end, self._share(level))
        self._join(entry, came)
        timer = loop.call_at(entry.end, entry.settle, False)
        try:
            await entry.future
        except BaseException:
            self._leave(entry, loop.time())
            raise
        finally:
            timer.cancel()
        return self._begun(entry, came, loop.time())

    def wait_sync(self) -> object:
        came = time.monotonic()
        level = current_criticality()
        end = self._end(came, level)
        entry = ThreadEntry(level, end, self._share(level))
        self._join(entry, came)
        try:
            entry.event.wait(min(entry.end - came, threading.TIMEOUT_MAX))
        except BaseException:
            self._leave(entry, time.monotonic())
            raise
        return self._begun(entry, came, time.monotonic())

    def _end(self, now: float, level: Criticality) -> End:
        """Until when one who comes now may wait."""
        deadline = current_deadline()
        passes = math.inf if deadline is None else deadline.when
        if passes <= now:
            raise self._refusal("deadline", level)
        budget = now + self.limiter.codels[level].budget(now)
        return End(passes, "deadline") if passes < budget else End(budget, "queue_time")

    def _join(self, entry: Entry, now: float) -> None:
        if not self.limiter.places.enqueue(entry, self.limiter.max_queue, now):
            raise self._refusal("queue_full", entry.level)

    def _leave(self, entry: Entry, now: float) -> None:
        """Whoever waited was cut: leave the line, or give back the place that was handed over meanwhile."""
        if not self.limiter.places.withdraw(entry, now) and entry.why is None:
            self._hand_back(entry, now)

    def _hand_back(self, entry: Entry, now: float) -> None:
        self.give_back(now)

    def _share(self, level: int) -> deque[None] | None:
        """Where the places of that level are counted."""
        return None

    def _token(self, entry: Entry, now: float) -> object:
        return now

    def _begun(self, entry: Entry, came: float, now: float) -> object:
        """The wait is over: with a place, or not."""
        if entry.why is None and self.limiter.places.withdraw(entry, now):
            entry.why = entry.late
        if entry.why is None:
            self.counts.waits.observe(now - came)
            return self._token(entry, now)
        raise self._refusal(entry.why, entry.level)

    def _refusal(self, reason: str, level: int) -> Rejected:
        name = self.policy.name or self.site.name
        self.counts.refused(reason, Criticality(level).name)
        events.emit("rejected", self.site.name, policy="adaptive_limit", reason=reason)
        return DeadlineExceeded(name) if reason == "deadline" else LimitReached(name)


class PartitionedGuard(AdaptiveGuard):
    """The same where shares are guaranteed. A token also says whose share the place counts for."""

    def __init__(self, policy: AdaptiveLimit, site: Site) -> None:
        super().__init__(policy, site)
        self.busy = policy.limiter.shares.busy

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline | None:
        return None

    def enter(self, now: float) -> object:
        try:
            self.take()
        except IndexError:
            return WAIT
        share = self.busy[current_criticality()]
        share.append(None)
        return now, share

    def succeeded(self, token: Any, now: float) -> None:
        began, share = token
        share.pop()
        super().succeeded(began, now)

    def failed(self, token: Any, now: float, exc: BaseException) -> None:
        began, share = token
        share.pop()
        super().failed(began, now, exc)

    def _share(self, level: int) -> deque[None] | None:
        return self.busy[level]

    def _token(self, entry: Entry, now: float) -> object:
        return now, entry.share

    def _hand_back(self, entry: Entry, now: float) -> None:
        if entry.share is not None:
            entry.share.pop()
        super()._hand_back(entry, now)


class AdaptiveMeter:
    """What an adaptive limit counts."""

    def __init__(self, policy: AdaptiveLimit) -> None:
        self.policy = policy
        self.waits = Histogram()
        self.rejected: dict[tuple[str, str], int] = {}
        self._lock = threading.RLock()

    def refused(self, reason: str, level: str) -> None:
        """Count a refusal, exactly: threads may refuse at the same moment."""
        with self._lock:
            self.rejected[reason, level] = self.rejected.get((reason, level), 0) + 1

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        name = (self.policy.label,)
        places = self.policy.limiter.places
        yield Sample("adaptive_limit", name, places.limit)
        yield Sample("adaptive_in_flight", name, places.active)
        yield Sample("adaptive_queue_depth", name, len(places.waiting))
        yield Sample("adaptive_queue_wait_seconds", name, self.waits.value())
        for labels, count in list(self.rejected.items()):
            yield Sample("adaptive_rejections_total", (*name, *labels), count)
