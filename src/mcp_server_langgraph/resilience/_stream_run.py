"""One stream on its way: attempts up to the first item, steps after it, and the guards that are held meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from . import _functions
from ._late import expired
from ._link import CallMeter
from ._past import Past
from ._source import END, Source
from ._stream_clocks import FREE, FreeStep, Step, StreamClock
from ._time_guards import TimeGuard
from .deadline import current_deadline
from .errors import StreamInterrupted
from .outcome import Outcome
from .policy import WAIT, Call, Guard, Policy, Repeat, Site

# How many of the last items `StreamInterrupted.received` keeps.
KEPT_ITEMS: Final = 1000

Nodes = Sequence[Guard | Repeat | Policy]


def _called(call: Call) -> Any:
    """What the guarded function gives, if it can be iterated over."""
    items = call.fn(*call.args, **call.kwargs)
    if hasattr(items, "__anext__"):
        return items
    if hasattr(items, "__aiter__"):
        return aiter(items)
    close = getattr(items, "close", None)
    if close is not None:
        close()  # a coroutine that will not be awaited
    name = _functions.qualified_name(call.fn)
    raise TypeError(f"cannot stream {name}: an async generator is needed, and it gave {type(items).__name__}")


class Plan:
    """What the streams of a pipeline have in common, up to the first policy that is no guard."""

    def __init__(self, site: Site, nodes: Nodes = (), proceed: Callable[[Call], Any] = _called) -> None:
        at = next((index for index, node in enumerate(nodes) if isinstance(node, Repeat)), len(nodes))
        self.site = site
        self.outer = [node for node in nodes[:at] if isinstance(node, Guard)]
        self.repeat = next((node for node in nodes if isinstance(node, Repeat)), None)
        self.inner = [node for node in nodes[at:] if isinstance(node, Guard)]
        self.proceed = proceed
        self.meter: CallMeter | None = None
        self.guarded = False


class StreamRun:
    """One stream on its way."""

    def __init__(self, plan: Plan, call: Call) -> None:
        self.plan = plan
        self.call = call
        self.clock = asyncio.get_running_loop().time
        self.began = self.clock()
        self.outer = _Entered(call)
        self.inner = _Entered(call)
        self.clocks: tuple[StreamClock, ...] = ()
        self.source = Source()
        self.received: deque[Any] = deque(maxlen=KEPT_ITEMS)
        self.count = 0

    async def first(self) -> Any:
        """The first item, with everything that may be done to get it."""
        item = await self.outer.enter(self.plan.outer, self._attempts)
        self.outer.first_item_came()
        self.inner.first_item_came()
        self.clocks = (*self.outer.clocks, *self.inner.clocks)
        return self._kept(item)

    async def next(self, sent: Any) -> Any:
        """The next item."""
        with self._step():
            return self._kept(await self.source.next(sent))

    async def throw(self, exc: BaseException) -> Any:
        """The next item, if the source has one after that."""
        with self._step():
            return self._kept(await self.source.throw(exc))

    async def failed(self, exc: BaseException) -> BaseException:
        """Close the source, tell the guards, and give what to raise."""
        raised = self.outer.failed(await self._attempt_failed(exc))
        if self.plan.meter is not None:
            self.plan.meter.ended(raised)
        return self._interrupted(raised) if self.plan.guarded and self.count else raised

    def succeeded(self) -> None:
        """Tell the guards that the stream came to its end."""
        self.inner.succeeded()
        self.outer.succeeded()
        if self.plan.meter is not None:
            self.plan.meter.histogram.observe(self.clock() - self.began)

    def _kept(self, item: Any) -> Any:
        if item is not END and self.plan.guarded:
            self.received.append(item)
            self.count += 1
        return item

    async def _attempts(self) -> Any:
        """Attempts until one gives its first item."""
        repeat, call = self.plan.repeat, self.call
        if repeat is None:
            return await self._attempt()
        began = self.clock()
        exc: BaseException | None = None
        past = Past(began)
        if repeat.keyed:
            call.kwargs = repeat.with_key(call.kwargs)
        repeat.attempts.first += 1
        try:
            while True:
                try:
                    item = await self._attempt()
                except Exception as raw:
                    exc = await self._attempt_failed(raw)
                    if not isinstance(exc, Exception):
                        raise exc from None  # cancelled while the attempt was being closed
                    step = repeat.again(
                        call.attempt, began, self.clock(), exc, past, call.fn, call.args, call.kwargs
                    )
                    if step is None:
                        raise exc from exc.__cause__
                    if isinstance(step, BaseException):
                        raise step  # noqa: B904 (what it came from, if anything, it carries already)
                else:
                    repeat.succeeded(call.attempt, self.clock() - past.since)
                    return item
                await asyncio.sleep(step)
                call.attempt += 1
                past.since = self.clock()
        finally:
            past.end()
            exc = step = None  # an exception kept in its own frame is a cycle

    async def _attempt(self) -> Any:
        self.inner = _Entered(self.call)
        return await self.inner.enter(self.plan.inner, self._open)

    async def _open(self) -> Any:
        self.source = Source(self.plan.proceed(self.call))
        return await self.source.next()

    async def _attempt_failed(self, exc: BaseException) -> BaseException:
        try:
            await self.source.close()
        except BaseException as closing:
            exc = closing
        return self.inner.failed(exc)

    def _step(self) -> Step | FreeStep:
        if not self.clocks:
            return FREE
        now = self.clock()
        end = self.clocks[0].next_end(now)
        for clock in self.clocks[1:]:
            other = clock.next_end(now)
            if other.when < end.when:
                end = other
        return Step(end)

    def _interrupted(self, exc: BaseException) -> BaseException:
        site = self.plan.site
        told = isinstance(exc, StreamInterrupted) and exc.pipeline == site.name
        if told or not isinstance(exc, Exception) or site.verdict(exc).outcome is not Outcome.FAILURE:
            return exc
        interrupted = StreamInterrupted(site.name, tuple(self.received), self.count)
        interrupted.__cause__ = exc
        return interrupted


class _Entered:
    """Guards that were entered together and are left together, the innermost first."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.tokens: list[tuple[Guard, Any]] = []
        self.clocks: list[StreamClock] = []

    async def enter(self, guards: Sequence[Guard], then: Callable[[], Awaitable[Any]], at: int = 0) -> Any:
        """Enter the guards from ``at`` on, then do the rest, each clock running from its place in the order."""
        time = asyncio.get_running_loop().time
        for index in range(at, len(guards)):
            guard = guards[index]
            if isinstance(guard, TimeGuard):
                self._refuse_expired(time())
                seconds = guard.policy.length_for(self.call.args, self.call.kwargs)
                clock = StreamClock(guard, time(), seconds)
                self.clocks.append(clock)
                with Step(clock.first_end()):
                    return await self.enter(guards, then, index + 1)
            token = guard.enter(time())
            if token is WAIT:
                token = await guard.wait()
            self.tokens.append((guard, token))
        return await then()

    def _refuse_expired(self, now: float) -> None:
        deadline = current_deadline()
        if deadline is not None and deadline.when <= now:
            raise expired(self.call.site.name)

    def first_item_came(self) -> None:
        now = asyncio.get_running_loop().time()
        for guard, token in self.tokens:
            guard.first_item_came(token, now)

    def failed(self, exc: BaseException) -> BaseException:
        now = asyncio.get_running_loop().time()
        while self.tokens:
            guard, token = self.tokens.pop()
            exc = guard.failed(token, now, exc) or exc
        return exc

    def succeeded(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.tokens:
            guard, token = self.tokens.pop()
            guard.succeeded(token, now)
