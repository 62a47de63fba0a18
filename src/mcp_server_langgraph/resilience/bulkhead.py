"""Bulkhead: at most so many calls at once, and a bounded line before the door.

It keeps one slow dependency from taking all of the process's memory, sockets and patience. Where all places are taken
a call waits in a FIFO line of at most ``max_queue``, for at most ``max_wait`` seconds; then it is refused. The limit
can be changed while calls are in flight.

Source: M. Nygard, "Release It!", 2nd ed., ch. 5 (bulkheads). ``asyncio.Semaphore`` has an unbounded line, no wait
limit, no live limit, no numbers, and belongs to one loop. The machine is in `_machines.places`.

Errors: `BulkheadFull`. Events: ``rejected``. Metrics: ``bulkhead_*``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from . import _stack, config, events
from ._checks import checked, checked_count
from ._inline import Inline, Lines
from ._machines.places import LoopWaiter, Places, ThreadWaiter, Waiter
from .errors import BulkheadFull
from .metrics import Histogram, Sample
from .policy import WAIT, Cost, Guard, Policy, Repeat, Site

__all__ = ["Bulkhead", "BulkheadSnapshot", "with_bulkhead"]

F = TypeVar("F", bound=Callable[..., Any])

# Seconds. Longer than a blip, shorter than the patience of whoever waits behind us.
DEFAULT_MAX_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class BulkheadSnapshot:
    """A bulkhead at one moment."""

    limit: int
    active: int
    queued: int
    rejected: int


class Bulkhead(Policy):
    """At most ``limit`` calls at once (>= 1; None: from the settings, by the kind of service).

    ``max_queue``: how many may wait (>= 0; None: as many as there are places). ``max_wait``: how long, in seconds
    (>= 0; 0: not at all; default 5). Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "bulkhead"

    def __init__(
        self,
        limit: int | None = None,
        *,
        max_queue: int | None = None,
        max_wait: float | None = None,
        name: str | None = None,
    ) -> None:
        checked_count("Bulkhead", "limit", limit, 1)
        checked_count("Bulkhead", "max_queue", max_queue, 0)
        checked("Bulkhead", "max_wait", max_wait, "at least 0 seconds", ok=max_wait is None or max_wait >= 0)
        self.name = name
        self._named = name is not None
        self._explicit = (limit, max_queue, max_wait)
        self._max_queue = max_queue
        self.max_wait = DEFAULT_MAX_WAIT
        self.places: Places[Waiter] = Places(config.current().limit(name or "", limit))
        self.counts = _BulkheadMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; calls in flight keep their places."""
        limit, max_queue, max_wait = self._explicit
        self.resize(settings.limit(service, limit))
        self._max_queue = settings.choose(service, "BULKHEAD_MAX_QUEUE", max_queue)
        wait = settings.choose(service, "BULKHEAD_MAX_WAIT", max_wait)
        self.max_wait = DEFAULT_MAX_WAIT if wait is None else wait

    @property
    def max_queue(self) -> int:
        """How many may wait."""
        return self.places.limit if self._max_queue is None else self._max_queue

    def resize(self, limit: int) -> None:
        """Change the number of places now, until settings are applied again. Raises `ConfigurationError` below 1."""
        checked_count("Bulkhead", "limit", limit, 1)
        if limit != self.places.limit:
            self.places.resize(limit)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        return {"limit": self.places.limit, "max_queue": self.max_queue, "max_wait": self.max_wait}

    def worst_case(self, inner: Cost) -> Cost:
        """The wait for a place comes on top."""
        return inner._replace(seconds=inner.seconds + self.max_wait)

    def snapshot(self) -> BulkheadSnapshot:
        """The bulkhead now."""
        places = self.places
        return BulkheadSnapshot(places.limit, places.active, len(places.waiting), self.counts.rejected)

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline; the places are shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        site.saturation.append(self.is_full)
        return _BulkheadGuard(self, site)

    def is_full(self) -> bool:
        """Whether all places are taken."""
        return not self.places.free


_LINES: Final = Lines(
    enter="""
try: token$ = take$()
except IndexError: token$ = WAIT
""",
    success="""
if places$.debt:
    give_back$()
else:
    put$(None)
    if places$.waiting or places$.debt: settle$()
""",
)


class _BulkheadGuard(Guard):
    waits = True
    gives_way = True

    def __init__(self, policy: Bulkhead, site: Site) -> None:
        self.policy = policy
        self.places = policy.places
        self.take = policy.places.free.pop
        self.meter = policy.counts
        self.site = site

    def inline(self, outer: Sequence[Guard | Repeat]) -> Inline:
        places = self.places
        ends = {"give_back": places.give_back, "put": places.free.append, "settle": places.settle}
        return Inline(_LINES, {"places": places, "take": self.take, **ends})

    def enter(self, now: float) -> object:
        try:
            self.take()
        except IndexError:
            return WAIT
        return None

    def succeeded(self, token: object, now: float) -> None:
        self.places.give_back()

    def failed(self, token: object, now: float, exc: BaseException) -> None:
        self.places.give_back()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        waiter = LoopWaiter(loop)
        if self.policy.max_wait <= 0 or not self.places.enqueue(waiter, self.policy.max_queue):
            raise self._refusal()
        came = loop.time()
        timer = loop.call_at(came + self.policy.max_wait, waiter.settle, False)
        try:
            got_it = await waiter.future
        except BaseException:
            if not self.places.withdraw(waiter):
                self.places.give_back()
            raise
        finally:
            timer.cancel()
        if not got_it and self.places.withdraw(waiter):
            raise self._refusal()
        self.policy.counts.waits.observe(loop.time() - came)

    def wait_sync(self) -> None:
        waiter = ThreadWaiter()
        if self.policy.max_wait <= 0 or not self.places.enqueue(waiter, self.policy.max_queue):
            raise self._refusal()
        came = time.monotonic()
        try:
            got_it = waiter.event.wait(min(self.policy.max_wait, threading.TIMEOUT_MAX))
        except BaseException:
            if not self.places.withdraw(waiter):
                self.places.give_back()
            raise
        if not got_it and self.places.withdraw(waiter):
            raise self._refusal()
        self.policy.counts.waits.observe(time.monotonic() - came)

    def _refusal(self) -> BulkheadFull:
        self.policy.counts.rejected += 1
        events.emit("rejected", self.site.name, policy="bulkhead")
        return BulkheadFull(self.policy.name or self.site.name)


class _BulkheadMeter:
    def __init__(self, policy: Bulkhead) -> None:
        self.policy = policy
        self.rejected = 0
        self.waits = Histogram()

    def samples(self) -> Iterator[Sample]:
        name = (self.policy.label,)
        places = self.policy.places
        yield Sample("bulkhead_rejections_total", name, self.rejected)
        yield Sample("bulkhead_queue_depth", name, len(places.waiting))
        yield Sample("bulkhead_active_operations", name, places.active)
        yield Sample("bulkhead_limit", name, places.limit)
        yield Sample("bulkhead_queue_wait_seconds", name, self.waits.value())


def with_bulkhead(limit: int | None = None, **options: Any) -> Callable[[F], F]:
    """Decorate a function with a bulkhead of its own (see `Bulkhead`)."""

    _stack.refuse_bare("with_bulkhead", limit)

    def decorate(fn: F) -> F:
        return _stack.add(Bulkhead(limit, **options), fn)

    return decorate
