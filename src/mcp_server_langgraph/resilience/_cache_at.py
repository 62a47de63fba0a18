"""A cache at work in one pipeline: what is fresh, what may stand in, who asks and who waits for that answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import events
from ._machines.flights import Flight, Flights, own_copy
from ._machines.store import Known
from ._memory import NOTHING
from .deadline import current_deadline, now, passed
from .degradation import note_degradation
from .errors import DeadlineExceeded, TimedOut
from .metrics import Sample
from .policy import Call, Policy, Proceed, ProceedSync, Site

if TYPE_CHECKING:
    from .cache import Cache

Who = asyncio.Future[Any]

# Told to a follower that has to ask itself.
_LEAD: Final = object()

# The flights that the code running now leads, or was called by the leader of.
_LEADING: Final[ContextVar[tuple[Flight[Who], ...]]] = ContextVar("resilience_leading", default=())


class CacheAt(Policy):
    """The cache at one pipeline."""

    kind = "cache"
    refuses_stream = "a stream is used up by whoever reads it; cache what it gives, or a plain call"

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
        me: Who = asyncio.get_running_loop().create_future()
        flight = flights.board(question, me, math.inf if under_way is None else _until())
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
        self, flights: Flights[Who], flight: Flight[Who], key: Hashable, call: Call, proceed: Proceed
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

    def _give_up(self, flights: Flights[Who], flight: Flight[Who], me: Who) -> None:
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


def _until() -> float:
    """When who asks now gives up, on the loop's clock."""
    deadline = current_deadline()
    return math.inf if deadline is None else deadline.when


def _leave(reset: Token[tuple[Flight[Who], ...]]) -> None:
    try:
        _LEADING.reset(reset)
    except ValueError:
        return  # an abandoned coroutine is closed in a foreign context: there is nothing to set back


def _tell(waiting: tuple[Who, ...], what: object) -> None:
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


class CacheMeter:
    """How the calls were answered."""

    def __init__(self, policy: Cache) -> None:
        self.policy = policy
        self.fresh = self.stale = self.joined = self.misses = 0

    def samples(self) -> Iterator[Sample]:
        name = self.policy.label
        for kind, count in (("fresh", self.fresh), ("stale", self.stale), ("joined", self.joined)):
            yield Sample("cache_hits_total", (name, kind), count)
        yield Sample("cache_misses_total", (name,), self.misses)
