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
- An error of the dependency goes to all: a copy for each where it can be copied (`_flights.own_copy`).
- A call made in the course of leading, that asks the same again, goes through: it cannot wait for itself.

Sources: RFC 5861 (``stale-if-error``), RFC 9111 section 4.2.4 (stale answers are bounded),
golang.org/x/sync/singleflight.

Errors: those of the dependency. Events: ``fallback`` with source "cache". Metrics: ``cache_*``.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from . import config, events
from ._checks import checked, checked_count
from ._flights import Flight, Flights, own_copy
from ._memory import NOTHING, Memory
from ._store import Known
from .deadline import now, passed
from .degradation import note_degradation
from .errors import DeadlineExceeded, TimedOut
from .metrics import Sample
from .policy import Call, Cost, Policy, Proceed, ProceedSync, Site

__all__ = ["Cache", "CacheSnapshot"]

_Who = asyncio.Future[Any]

# Told to a follower that has to ask itself.
_LEAD: Final = object()

# The flights that the code running now leads, or was called by the leader of.
_LEADING: Final[ContextVar[tuple[Flight[_Who], ...]]] = ContextVar("resilience_leading", default=())


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

    kind: ClassVar[str] = "cache"
    refuses_stream: ClassVar[str] = (
        "a stream is used up by whoever reads it; cache what it gives, or a plain call"
    )

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
        self.counts = _CacheMeter(self)
        self._flights: dict[asyncio.AbstractEventLoop, Flights[_Who]] = {}
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
        return _CacheAt(self, site)

    def flights(self) -> Flights[_Who]:
        """The questions under way on the running loop."""
        loop = asyncio.get_running_loop()
        flights = self._flights.get(loop)
        return self._adopt(loop) if flights is None else flights

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> Flights[_Who]:
        with self._adopting:
            for other in [other for other in self._flights if other.is_closed()]:
                del self._flights[other]
            return self._flights.setdefault(loop, Flights())


class _CacheAt(Policy):
    kind = Cache.kind
    refuses_stream = Cache.refuses_stream

    def __init__(self, policy: Cache, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.memory = policy.memory
        self.meter = self.counts = policy.counts

    async def run(self, call: Call, proceed: Proceed) -> Any:
        key = self._key_of(call)
        if key is NOTHING:
            return await proceed(call)
        fresh = self._fresh(key)
        if fresh is not None:
            return fresh.value
        try:
            return await (self._join if self.policy.single_flight else self._ask)(key, call, proceed)
        except Exception as exc:
            stale = self._stale(key, exc)
            if stale is None:
                raise
            return stale.value

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        key = self._key_of(call)
        if key is NOTHING:
            return proceed(call)
        fresh = self._fresh(key)
        if fresh is not None:
            return fresh.value
        self.counts.misses += 1
        try:
            result = proceed(call)
        except Exception as exc:
            stale = self._stale(key, exc)
            if stale is None:
                raise
            return stale.value
        self.memory.put(key, result, now())
        return result

    def _key_of(self, call: Call) -> Hashable:
        key = self.memory.key_of(call.args, call.kwargs)
        return key if key is NOTHING else (call.fn, key)

    def _fresh(self, key: Hashable) -> Known | None:
        known = self.memory.get(key, now(), self.policy.ttl) if self.policy.ttl > 0 else None
        if known is not None:
            self.counts.fresh += 1
        return known

    def _stale(self, key: Hashable, exc: Exception) -> Known | None:
        """What stands in for an answer, after it was said that it does."""
        if self.policy.max_age <= 0 or passed() or not self.site.verdict(exc).unavailable:
            return None
        known = self.memory.get(key, now(), self.policy.max_age)
        if known is not None:
            self.counts.stale += 1
            reason = type(exc).__name__
            note_degradation(self.site.name, reason, "cache", known.age)
            events.emit("fallback", self.site.name, source="cache", error=reason, age=round(known.age, 3))
        return known

    async def _ask(self, key: Hashable, call: Call, proceed: Proceed) -> Any:
        self.counts.misses += 1
        result = await proceed(call)
        self.memory.put(key, result, now())
        return result

    async def _join(self, key: Hashable, call: Call, proceed: Proceed) -> Any:
        flights = self.policy.flights()
        question = (self.site, key)
        under_way = flights.under_way(question)
        if under_way is not None and under_way in _LEADING.get():
            return await self._ask(key, call, proceed)
        me: _Who = asyncio.get_running_loop().create_future()
        flight = flights.board(question, me)
        answer = None
        try:
            if flight.leader is not me:
                answer = await me
                if answer is not _LEAD:
                    self.counts.joined += 1
                    if isinstance(answer, _Failed):
                        raise own_copy(answer.exc)
                    return answer.result
            return await self._lead(flights, flight, key, call, proceed)
        except GeneratorExit:
            _later(me.get_loop(), self._give_up, flights, flight, me)
            raise
        except BaseException:
            self._give_up(flights, flight, me)
            raise
        finally:
            answer = None  # an exception kept in its own frame is a cycle

    async def _lead(
        self, flights: Flights[_Who], flight: Flight[_Who], key: Hashable, call: Call, proceed: Proceed
    ) -> Any:
        reset = _LEADING.set((*_LEADING.get(), flight))
        try:
            result = await self._ask(key, call, proceed)
        except Exception as exc:
            if not _concerns_only_the_leader(exc):
                _tell(flights.landed(flight), _Failed(exc))
            raise
        finally:
            _leave(reset)
        _tell(flights.landed(flight), _Given(result))
        return result

    def _give_up(self, flights: Flights[_Who], flight: Flight[_Who], me: _Who) -> None:
        """Leave, if the flight is not over. Who leads now and is gone already gives up in its turn when it wakes."""
        leader = flights.gave_up(flight, me)
        if leader is not None:
            _tell((leader,), _LEAD)


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer for those who waited."""

    result: Any


@dataclass(frozen=True, slots=True)
class _Failed:
    """An error for those who waited."""

    exc: Exception


def _leave(reset: Token[tuple[Flight[_Who], ...]]) -> None:
    try:
        _LEADING.reset(reset)
    except ValueError:
        return  # an abandoned coroutine is closed in a foreign context: there is nothing to set back


def _tell(waiting: tuple[_Who, ...], what: object) -> None:
    for who in waiting:
        if not who.done():
            who.set_result(what)


def _later(loop: asyncio.AbstractEventLoop, do: Callable[..., None], *args: Any) -> None:
    """An abandoned coroutine is closed by the garbage collector: in any thread, and in the middle of anything."""
    try:
        loop.call_soon_threadsafe(do, *args)
    except RuntimeError:
        return  # the loop is closed, and nobody waits


def _concerns_only_the_leader(exc: Exception) -> bool:
    """Whether it says something about the leader's caller, whose time was up, and nothing to the others."""
    return isinstance(exc, DeadlineExceeded) or (isinstance(exc, TimedOut) and exc.clock == "inherited")


class _CacheMeter:
    def __init__(self, policy: Cache) -> None:
        self.policy = policy
        self.fresh = self.stale = self.joined = self.misses = 0

    def samples(self) -> Iterator[Sample]:
        name = self.policy.name or "unnamed"
        for kind, count in (("fresh", self.fresh), ("stale", self.stale), ("joined", self.joined)):
            yield Sample("cache_hits_total", (name, kind), count)
        yield Sample("cache_misses_total", (name,), self.misses)


def _check(ttl: float | None, max_age: float | None, max_size: float | None) -> None:
    for label, value in (("ttl", ttl), ("max_age", max_age)):
        ok = value is None or 0 <= value < math.inf
        checked("Cache", label, value, "a number of seconds of at least 0", ok=ok)
    checked_count("Cache", "max_size", max_size, 1)
