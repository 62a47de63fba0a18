"""Shared state: processes that call the same dependencies tell each other what they found, and none waits for it.

    async with SharedState(RedisLink("redis://localhost:6379/0")):
        ...

Everything stays *local first*: a call asks its own process's breaker, cooldown, quota and budget, which know nothing of
the others. A task in the background writes this process's facts to a common place five times a second, reads those of
the others, and tells the policies. Where the place cannot be reached each process is on its own, as it is without.

- Breakers: once enough processes opened theirs by their own evidence (`_machines.quorum`), the others open too. One
  sick process opens nobody else's; and who opened on the word of others probes for itself.
- Cooldowns, and the holds of quotas: only ever extended.
- Quotas: what others took is missing here too. Rate limits as well, where asked for.
- Retry budgets: one share of all traffic, and one floor, divided.

Who is alive is told by reports that advance, on our own clock (`_machines.peers`). The common place is a `Link`:
`integrations.redis_shared` has one for Redis. Events: ``shared`` (others can be heard),
``unshared`` (this process is on its own). Metrics: ``shared_*``.

Where it comes from: the wishes and the objections in Polly #287 and resilience4j #1721 (a round trip on each call, one
bad node that poisons all); counters that only grow: Shapiro et al., "Conflict-free Replicated Data Types" (2011).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from .. import events, registry
from .._checks import checked, checked_count, checked_time
from .._machines.peers import Peers
from .._machines.quorum import Quorum
from ..metrics import Sample
from ..policy import Policy
from ._shared.book import KINDS, Book
from ._shared.codec import BadReport, facts_of, number_of, written

__all__ = ["Link", "SharedSnapshot", "SharedState"]

# Seconds between two tries where the common place cannot be reached: it grows up to this.
LONGEST_PAUSE: Final = 1.0
# By chance, as a share of the time between two exchanges: processes that began together do not stay together.
SPREAD: Final = 0.2
MOST_IN_A_ROW: Final = 16


class Link(Protocol):
    """The common place of one group of processes."""

    async def exchange(self, replica: str, report: bytes) -> Mapping[str, bytes]:
        """Put a replica's newest report there, and give the newest of all."""
        ...

    async def remove(self, replicas: Collection[str]) -> None:
        """Take the reports of these away."""
        ...

    async def aclose(self) -> None:
        """Nothing more will come."""
        ...


@dataclass(frozen=True, slots=True)
class SharedSnapshot:
    """Shared state at one moment. ``connected``: whether others could be heard within the lease; ``replicas``: the
    others that are heard; ``exchanges``, ``failed`` and ``bad_reports`` count; ``openings``: of each breaker that the
    others opened here, how often.
    """

    connected: bool
    replicas: int
    exchanges: int
    failed: int
    bad_reports: int
    openings: dict[str, int]


class SharedState:
    """Shares what this process's policies find out with other processes; begins with ``async with``, or `start`.

    ``link``: the common place; it is closed with this. ``interval``: seconds between two exchanges (> 0; default 0.2).
    ``timeout``: seconds that one may take (> 0; default 0.5). ``lease``: seconds that what another told is good for
    (default 3; more than interval and timeout together). ``minimum`` (>= 1; default 2) processes, and more than a
    ``share`` (0 to below 1; default 0.5) of those that have an opinion of a dependency, open everyone's circuit.

    ``policies``: which are shared (None: all that are in a pipeline, as they come and go). ``kinds``: of those, which
    kinds: circuit_breaker, cooldown, quota, budget (the default), rate_limit (its ``permits`` are then those of all
    processes together). What has the same name in two processes is the same. ``name``: the metrics' ``service``.

    Names and numbers are all that leaves the process. Raises `ConfigurationError` for values out of range.
    """

    def __init__(
        self,
        link: Link,
        *,
        interval: float = 0.2,
        timeout: float = 0.5,
        lease: float = 3.0,
        minimum: int = 2,
        share: float = 0.5,
        policies: Iterable[Policy] | None = None,
        kinds: Collection[str] = ("budget", "circuit_breaker", "cooldown", "quota"),
        name: str = "shared",
        chance: Callable[[], float] = random.random,
    ) -> None:
        for label, value in (("interval", interval), ("timeout", timeout), ("lease", lease)):
            checked_time("SharedState", label, value)
        longer = lease > interval + timeout
        checked("SharedState", "lease", lease, "more than interval and timeout together", ok=longer)
        checked_count("SharedState", "minimum", minimum, 1)
        checked("SharedState", "share", share, "at least 0 and below 1", ok=0 <= share < 1)
        checked("SharedState", "kinds", kinds, f"some of {', '.join(KINDS)}", ok=set(kinds) <= set(KINDS))
        self.name = name
        self.replica = ""
        self._link = link
        self._interval, self._timeout, self._lease = interval, timeout, lease
        self._chance = chance
        self._peers = Peers(lease)
        self._book = Book(policies, frozenset(kinds), lambda: Quorum(minimum, share, lease), lease)
        self._task: asyncio.Task[None] | None = None
        self._number = 0
        self._connected = False
        self._heard_at = 0.0
        self._exchanges = self._failed = self._bad_reports = self._in_a_row = 0
        self._bad: set[str] = set()

    async def start(self) -> None:
        """Begin to share, in the background. Raises RuntimeError where it has begun."""
        if self._task is not None:
            raise RuntimeError("shared state has begun already")
        self.replica = secrets.token_hex(8)  # new in each process, also where one was forked off another
        registry.add_meter(self)
        self._task = asyncio.create_task(self._share(), name=f"resilience shared state {self.name}")

    async def aclose(self) -> None:
        """Stop sharing: what others opened may be tried at once, and the others hear that this one is gone."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        registry.remove_meter(self)
        self._book.end()
        self._connected = False
        await self._remove([self.replica])
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await self._link.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def snapshot(self) -> SharedSnapshot:
        """Shared state now. To be called on its loop."""
        return SharedSnapshot(
            self._connected,
            self._peers.alive(asyncio.get_running_loop().time()) if self._connected else 0,
            self._exchanges,
            self._failed,
            self._bad_reports,
            {name: count for name, count in self._book.openings() if count},
        )

    # In the background

    async def _share(self) -> None:
        clock, task = asyncio.get_running_loop().time, asyncio.current_task()
        assert task is not None
        self._heard_at = clock()
        # Asked, not only raised: a link may take our cancellation for an error of its own (redis-py 8.1 does while it
        # connects), and we would go on for ever.
        while True:
            try:
                await self._exchange(clock)
                self._follow(clock())
            except (
                Exception
            ):  # a bug of ours must not end it: who opened on the word of others has to be let go
                events.logger.exception("shared state %s", self.name)
            if task.cancelling():
                return
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Longer each time in a row that it failed, so that one who comes back is not run over. Twice is none: what
        got lost on the way is said again soon.
        """
        doubled = 2.0 ** max(0, self._in_a_row - 2)
        seconds = min(self._interval * doubled, max(self._interval, LONGEST_PAUSE))
        return seconds * (1 - SPREAD * self._chance())

    async def _exchange(self, clock: Callable[[], float]) -> None:
        """Tell and hear. Whatever goes wrong with the link is only counted: it is nobody's call."""
        self._number += 1
        report = written(self._number, self._book.told(clock()))
        try:
            async with asyncio.timeout(self._timeout):
                reports = await self._link.exchange(self.replica, report)
        except Exception as exc:
            self._failed += 1
            self._in_a_row = min(self._in_a_row + 1, MOST_IN_A_ROW)
            events.logger.debug("shared state %s: no exchange", self.name, exc_info=exc)
            return
        self._exchanges += 1
        self._in_a_row = 0
        self._hear(reports, clock())
        await self._remove(self._forget(clock()))

    def _hear(self, reports: Mapping[str, bytes], now: float) -> None:
        numbers = {replica: self._number_of(replica, report) for replica, report in reports.items()}
        numbers.pop(self.replica, None)
        for replica, fresh in self._peers.look(numbers, now).items():
            if numbers[replica]:
                try:
                    facts = facts_of(reports[replica])
                except BadReport as exc:
                    self._leave_out(replica, exc)
                else:
                    self._bad.discard(replica)
                    self._book.heard(replica, facts, fresh, now)
        self._heard_at = now
        if not self._connected:
            self._connected = True
            events.emit("shared", self.name, replica=self.replica)

    def _number_of(self, replica: str, report: bytes) -> int:
        """The report's number; one that cannot be read has 0, does not grow, and is taken away some day."""
        try:
            return number_of(report)
        except BadReport as exc:
            self._leave_out(replica, exc)
            return 0

    def _leave_out(self, replica: str, why: BadReport) -> None:
        """Counted each time, told once."""
        self._bad_reports += 1
        if replica not in self._bad:
            self._bad.add(replica)
            events.emit("warning", self.name, problem="unreadable report", replica=replica, why=str(why))

    def _forget(self, now: float) -> list[str]:
        gone = self._peers.forget(now)
        for replica in gone:
            self._bad.discard(replica)
            self._book.gone(replica)
        return gone

    async def _remove(self, replicas: Collection[str]) -> None:
        """Take reports away; where that fails they are forgotten another time."""
        if replicas:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self._timeout):
                    await self._link.remove(replicas)

    def _follow(self, now: float) -> None:
        """Do what follows from what was heard, or from silence."""
        if self._connected and now - self._heard_at > self._lease:
            self._connected = False
            events.emit("unshared", self.name, silent_for=round(now - self._heard_at, 3))
        self._book.act(now, connected=self._connected)

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        label = (self.name,)
        yield Sample("shared_connected", label, float(self._connected))
        yield Sample("shared_replicas", label, self._peers.alive(self._heard_at) if self._connected else 0)
        yield Sample("shared_exchanges_total", (self.name, "ok"), self._exchanges)
        yield Sample("shared_exchanges_total", (self.name, "failed"), self._failed)
        yield Sample("shared_bad_reports_total", label, self._bad_reports)
        for name, count in self._book.openings():
            yield Sample("shared_openings_total", (name,), count)
