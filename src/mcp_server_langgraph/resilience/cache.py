"""Cache: ask once, and remember what was answered.

Three things that belong together, each of which can be left out:

- *single-flight*: of all who ask the same at once one asks the dependency and the others wait for that answer. A cache
  that was flushed under 1,000 readers costs one request instead of 1,000 (the "thundering herd", "cache stampede").
- *fresh*: an answer at most ``ttl`` seconds old is given without asking.
- *stale on error*: where the dependency is unavailable (`outcome.Verdict.unavailable`: never for bugs, client errors or
  cancellation) the last good answer is given, if at most ``max_age`` seconds old, and says that it is degraded.

Only for idempotent reads. Errors and results judged bad are never remembered. What leads and follows:

- The leader asks in its own task; no task is made. A follower that is cancelled, or whose deadline passes, leaves
  alone.
- A leader that is cancelled, or whose caller's deadline passes, hands over to the follower who has waited longest:
  that is one more request, and not one for each of them.
- An error of the dependency goes to all: a copy for each where it can be copied (`_machines.flights.own_copy`).
- A call made in the course of leading, that asks the same again, goes through: it cannot wait for itself.

Sources: RFC 5861 (``stale-if-error``), RFC 9111 section 4.2.4 (stale answers are bounded),
golang.org/x/sync/singleflight.

Errors: those of the dependency. Events: ``fallback`` with source "cache". Metrics: ``cache_*``.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from . import config
from ._cache_at import CacheAt, CacheMeter, Who
from ._checks import checked, checked_count
from ._machines.flights import Flights
from ._memory import Memory
from .policy import Cost, Policy, Site

__all__ = ["Cache", "CacheSnapshot"]


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """A cache at one moment: answers kept, questions under way, and how the calls were answered so far."""

    kept: int
    max_size: int
    in_flight: int
    fresh: int
    stale: int
    joined: int
    misses: int


class Cache(Policy):
    """Ask once, and remember the answer.

    ``ttl``: seconds for which an answer is given again without asking (>= 0; 0: not at all; default 0). ``max_age``:
    seconds up to which it may stand in for an unavailable dependency (>= 0; 0: not at all; default 300). ``max_size``:
    answers that are kept (>= 1; default 1024), the least recently used go first. None means: from the settings.
    ``key`` makes the key from the arguments (default: the arguments themselves; each function has its own answers). A
    call whose key cannot be made or hashed goes through. ``single_flight``: whether calls wait for one another, which
    they do within one event loop; answers are shared by loops and threads.

    Everybody gets the same object. Raises `ConfigurationError` for values out of range; TypeError at decoration of an
    async generator.
    """

    kind: ClassVar[str] = CacheAt.kind
    refuses_stream: ClassVar[str] = CacheAt.refuses_stream

    def __init__(
        self,
        *,
        ttl: float | None = None,
        max_age: float | None = None,
        key: Callable[..., Any] | None = None,
        max_size: int | None = None,
        single_flight: bool = True,
        name: str | None = None,
    ) -> None:
        _check(ttl, max_age, max_size)
        self.name = name
        self.single_flight = single_flight
        self.ttl = self.max_age = 0.0
        self._explicit = (ttl, max_age, max_size)
        self.memory = Memory("Cache", 1, key)
        self.counts = CacheMeter(self)
        self._flights: dict[asyncio.AbstractEventLoop, Flights[Who]] = {}
        self._adopting = threading.Lock()
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; what is remembered stays, as far as it fits."""
        ttl, max_age, max_size = self._explicit
        self.ttl = settings.choose(service, "CACHE_TTL", ttl)
        self.max_age = settings.choose(service, "CACHE_MAX_AGE", max_age)
        self.memory.resize(settings.choose(service, "CACHE_MAX_SIZE", max_size))

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        return {
            "ttl": self.ttl,
            "max_age": self.max_age,
            "max_size": self.memory.max_size,
            "single_flight": self.single_flight,
        }

    def snapshot(self) -> CacheSnapshot:
        """The cache now."""
        counts = self.counts
        in_flight = sum(len(flights) for flights in list(self._flights.values()))
        told = (counts.fresh, counts.stale, counts.joined, counts.misses)
        return CacheSnapshot(len(self.memory), self.memory.max_size, in_flight, *told)

    def clear(self) -> None:
        """Forget every answer. Questions under way go on."""
        self.memory.clear()

    def worst_case(self, inner: Cost) -> Cost:
        """A follower waits for others before it asks, and nothing here bounds for how many."""
        return Cost(inner.requests, math.inf) if self.single_flight else inner

    def bind(self, site: Site) -> Policy:
        """The cache at one pipeline; answers are shared by all of them, waiting is not."""
        self.name = self.name or site.name
        return CacheAt(self, site)

    def flights(self) -> Flights[Who]:
        """The questions under way on the running loop."""
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        return self._adopt(loop) if flights is None else flights

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> Flights[Who]:
        with self._adopting:
            for other in [other for other in self._flights if other.is_closed()]:
                del self._flights[other]
            return self._flights.setdefault(loop, Flights())


def _check(ttl: float | None, max_age: float | None, max_size: float | None) -> None:
    for label, value in (("ttl", ttl), ("max_age", max_age)):
        ok = value is None or 0 <= value < math.inf
        checked("Cache", label, value, "a number of seconds of at least 0", ok=ok)
    checked_count("Cache", "max_size", max_size, 1)
