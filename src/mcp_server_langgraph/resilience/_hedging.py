"""Hedging at one site: begins the races of its calls, decides about hedges, and counts. `hedge` says what it is for."""

from __future__ import annotations

import contextlib
from asyncio import current_task
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from . import events
from ._hedge_race import Hedged, Race
from ._machines.hedge_switch import REST
from ._machines.timers import TimerQueue, queue_for
from ._source import Source, relayed
from .deadline import current_deadline
from .metrics import Sample
from .policy import Call, Policy, Proceed, ProceedStream, Site

if TYPE_CHECKING:
    from .hedge import Hedge

# Why a hedge was not begun.
REASONS: Final[tuple[str, ...]] = ("budget", "deadline", "not_winning", "saturated")


class Hedging(Policy):
    """Hedging at one site: begins races, and is their umpire."""

    kind: ClassVar[str] = "hedge"

    def __init__(self, policy: Hedge, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.queue: TimerQueue | None = None
        self.meter = self.counts = policy.counts
        self.budget = policy.budget
        self.budget.join(site, self.counts.first_attempts)

    async def run(self, call: Call, proceed: Proceed, kind: type[Race] = Race) -> Any:
        policy = self.policy
        self.counts.calls += 1
        task = current_task()
        if task is None or not policy.max_hedges:
            return await proceed(call)
        loop = task.get_loop()
        known, time = self.site.clock
        if known is not loop:
            _, time = self.site.adopt_loop()
        began = time()
        race = kind(task, loop, self, call, proceed)
        del task  # it keeps its exception, which keeps this frame: a cycle
        latencies = policy.latencies
        if began >= latencies.ends:
            latencies.turn(began)
        delay = latencies.known if policy.fixed is None else policy.fixed
        if delay is not None:
            queue = self.queue
            if queue is None or queue.seconds != delay or queue.loop is not loop:
                queue = self.queue = queue_for(loop, delay) or TimerQueue(loop, delay)
            race.queue = queue
            when = queue.entries[race] = began + delay
            if queue.handle is None:
                queue.schedule(when)
        try:
            result = await proceed(call)
        except BaseException as exc:
            ended = time()
            if not await race.after_failure(exc):
                raise
            if not race.primary_failed:
                # It would have taken longer. Were it not counted, the quantile would sink with every hedge that wins.
                latencies.add(ended - began, ended)
                self.counts.wasted_seconds += ended - began
            return race.winner
        ended = time()
        latencies.add(ended - began, ended)
        queue = race.queue
        if queue is None or queue.entries.pop(race, None) is None:
            return await race.after_success(result)
        race.task = None
        return result

    def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        async def opened(call: Call) -> _Opened:
            source = Source(proceed(call))
            try:
                return source, await source.next()
            except GeneratorExit:
                raise  # nothing can be awaited any more
            except BaseException:
                await source.close()
                raise

        return relayed(lambda: self.run(call, opened, StreamRace))

    def wanted(self, race: Race, why: str) -> None:
        """Begin a hedge, if nothing speaks against it."""
        policy = self.policy
        if race.number >= policy.max_hedges:
            return
        now = race.loop.time()
        admitted = self._admit(race, now)
        if isinstance(admitted, str):
            self.counts.suppressed[admitted] += 1
            return
        self.counts.started += 1
        race.begin(now, admitted)
        events.emit("hedge", self.site.name, number=race.number, why=why)
        delay = policy.delay()
        if why == "slow" and race.number < policy.max_hedges and delay is not None:
            race.arm_at(race.loop, now + delay)

    def _admit(self, race: Race, now: float) -> int | str:
        """The switch's generation for a new hedge, or why none may begin."""
        if self._too_late(race, now):
            return "deadline"
        if self.is_saturated():
            return "saturated"
        with self.policy.lock:
            before = self.policy.switch.generation
            generation = self.policy.switch.begin(now)
        if generation is None:
            return "not_winning"
        if generation != before:
            events.emit("hedge_on", self.site.name)
        return generation if self.budget.spend(now) else "budget"

    def _too_late(self, race: Race, now: float) -> bool:
        """Whether the deadline leaves less than what half of the answers take."""
        deadline = race.context.run(current_deadline)
        return deadline is not None and deadline.when - now <= (self.policy.latencies.of(0.5) or 0.0)

    def is_saturated(self) -> bool:
        """Whether a limiter around here, or the user's word, is against more load."""
        own = self.policy.saturated
        return any(full() for full in self.site.saturation) or (own is not None and own())

    def failed(self, race: Race, exc: BaseException) -> None:
        """Begin the next hedge at once, where a new attempt may help and the dependency did not ask for a pause."""
        if self.policy.on_failure:
            verdict = self.site.verdict(exc)
            if verdict.retryable and verdict.retry_after is None:
                self.wanted(race, "failed")

    def ended(self, race: Race, hedge: Hedged, won: bool | None) -> None:
        """Count a hedge, and switch hedging off where too few win."""
        now = race.loop.time()
        if won:
            self.counts.won += 1
        else:
            self.counts.wasted_seconds += now - hedge.began
        if won is None:
            return
        with self.policy.lock:
            switched_off = self.policy.switch.ended(hedge.generation, won, now)
        if switched_off:
            events.emit("hedge_off", self.site.name, reason="not_winning", seconds=REST)


# A stream that gave its first item, and that item.
_Opened = tuple[Source, Any]


class StreamRace(Race):
    """A race to the first item."""

    __slots__ = ()

    async def _discard(self, result: _Opened) -> None:
        with contextlib.suppress(Exception):  # nobody asked for its opinion
            await result[0].close()


class HedgeMeter:
    def __init__(self, policy: Hedge) -> None:
        self.policy = policy
        self.calls = 0
        self.started = 0
        self.won = 0
        self.wasted_seconds = 0.0
        self.suppressed: dict[str, int] = dict.fromkeys(REASONS, 0)

    def first_attempts(self) -> int:
        """The traffic, for the budget."""
        return self.calls

    def samples(self) -> Iterator[Sample]:
        name = self.policy.label
        yield Sample("hedge_started_total", (name,), self.started)
        yield Sample("hedge_won_total", (name,), self.won)
        yield Sample("hedge_wasted_seconds_total", (name,), self.wasted_seconds)
        for reason, count in self.suppressed.items():
            yield Sample("hedge_suppressed_total", (name, reason), count)
        delay = self.policy.delay()
        if delay is not None:
            yield Sample("hedge_delay_seconds", (name,), delay)
