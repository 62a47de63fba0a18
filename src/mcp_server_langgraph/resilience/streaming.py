"""The same policies around async generators.

A stream has four clocks: the time to its first item (connecting included), the idle time between items, the time of
one attempt and the total. They run while we wait for the stream, step by step, so that no deadline is ever left in
the consumer's context. Before the first item retry and fallback are free to act; after it an interruption is a
`StreamInterrupted` with what was received. Guards are held from the first attempt to the end of the stream, and its
outcome is recorded there; a consumer that stops early (``aclose``, ``break`` in ``aclosing``) is neutral.

Errors: those of the policies, and `StreamInterrupted` where a failure came after the first item; what is no failure of
the dependency (a bug, a client error) passes as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import _functions
from ._functions import END, Source
from ._link import CallMeter
from ._past import Past
from ._time_guards import TimeGuard
from ._timers import queue_for, running_task
from .deadline import Deadline, current_deadline
from .errors import StreamInterrupted
from .outcome import Outcome
from .policy import WAIT, Call, Guard, Policy, Repeat, Site
from .propagation import expired

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["KEPT_ITEMS", "as_function", "stream"]

# How many of the last items `StreamInterrupted.received` keeps.
KEPT_ITEMS: Final = 1000

Stream = AsyncGenerator[Any, Any]
Nodes = Sequence[Guard | Repeat | Policy]


def as_function(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Stream]:
    """An async generator function that runs ``fn`` through the pipeline."""
    guarded, bare = _link(pipeline), _Plan(pipeline.site)

    def begin(*args: Any, **kwargs: Any) -> _Run:
        call = Call(fn, args, kwargs, pipeline.site)
        return _Run(bare if pipeline.site.bypassed else guarded, call)

    return _generator(begin)


def stream(
    pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Stream:
    """``fn(*args, **kwargs)`` through the policies of the pipeline."""
    return as_function(pipeline, fn)(*args, **kwargs)


def _generator(begin: Callable[..., _Run]) -> Callable[..., Stream]:
    """The generator function whose streams do what ``begin`` gives them to do."""

    async def frame(*args: Any, **kwargs: Any) -> Stream:
        run = begin(*args, **kwargs)
        try:
            item = await run.first()
            while item is not END:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    item = await run.throw(thrown)
                else:
                    item = await run.next(sent)
            await run.source.close()
        except BaseException as exc:
            raised = await run.failed(exc)
            try:
                if raised is exc:
                    raise
                raise raised from raised.__cause__ or exc
            finally:
                del raised  # an exception kept in its own frame is a cycle
        run.succeeded()

    return frame


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


class _Plan:
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


def _link(pipeline: Pipeline) -> _Plan:
    plan = _linked(pipeline.bound, pipeline.site)
    plan.meter = next((meter for meter in pipeline.meters() if isinstance(meter, CallMeter)), None)
    return plan


def _linked(bound: Nodes, site: Site) -> _Plan:
    at = next((index for index, item in enumerate(bound) if isinstance(item, Policy)), None)
    if at is None:
        plan = _Plan(site, bound)
    else:
        plan = _Plan(site, bound[:at], _around(bound[at], _linked(bound[at + 1 :], site)))
    plan.guarded = True
    return plan


def _around(policy: Guard | Repeat | Policy, plan: _Plan) -> Callable[[Call], Any]:
    assert isinstance(policy, Policy)
    kind = type(policy)
    if kind.stream is Policy.stream and kind.run is not Policy.run:
        reason = getattr(policy, "refuses_stream", None) or f"{kind.__qualname__} has no stream()"
        raise TypeError(f"{policy.kind} cannot guard an async generator: {reason}")
    proceed = _generator(partial(_Run, plan))
    return lambda call: policy.stream(call, proceed)


class _Run:
    """One stream on its way."""

    def __init__(self, plan: _Plan, call: Call) -> None:
        self.plan = plan
        self.call = call
        self.clock = asyncio.get_running_loop().time
        self.began = self.clock()
        self.outer = _Entered(plan.site)
        self.inner = _Entered(plan.site)
        self.clocks: tuple[_Clock, ...] = ()
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
        past = Past()
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
                    if call.attempt > 1:
                        repeat.recovered(call.attempt)
                    return item
                await asyncio.sleep(step)
                call.attempt += 1
        finally:
            past.end()
            exc = step = None  # an exception kept in its own frame is a cycle

    async def _attempt(self) -> Any:
        self.inner = _Entered(self.plan.site)
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

    def _step(self) -> _Step | _FreeStep:
        if not self.clocks:
            return _FREE
        now = self.clock()
        end = self.clocks[0].next_end(now)
        for clock in self.clocks[1:]:
            other = clock.next_end(now)
            if other.when < end.when:
                end = other
        return _Step(end)

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

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tokens: list[tuple[Guard, Any]] = []
        self.clocks: list[_Clock] = []

    async def enter(self, guards: Sequence[Guard], then: Callable[[], Awaitable[Any]], at: int = 0) -> Any:
        """Enter the guards from ``at`` on, then do the rest, each clock running from its place in the order."""
        time = asyncio.get_running_loop().time
        for index in range(at, len(guards)):
            guard = guards[index]
            if isinstance(guard, TimeGuard):
                self._refuse_expired(time())
                clock = _Clock(guard, time())
                self.clocks.append(clock)
                with _Step(clock.first_end()):
                    return await self.enter(guards, then, index + 1)
            token = guard.enter(time())
            if token is WAIT:
                token = await guard.wait()
            self.tokens.append((guard, token))
        return await then()

    def _refuse_expired(self, now: float) -> None:
        deadline = current_deadline()
        if deadline is not None and deadline.when <= now:
            raise expired(self.site.name)

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


class _End(NamedTuple):
    """When a step must be over, and whose word that is. ``fresh``: it is ``seconds`` from now."""

    when: float
    seconds: float
    clock: str
    guard: TimeGuard
    began: float
    fresh: bool


class _Clock:
    """A timeout's clocks for one stream, with the settings that it began with."""

    def __init__(self, guard: TimeGuard, began: float) -> None:
        policy = guard.policy
        self.guard = guard
        self.began = began
        self.whole = _End(began + policy.seconds, policy.seconds, guard.clock, guard, began, fresh=False)
        self.first_item = policy.first_item
        self.idle = policy.idle

    def first_end(self) -> _End:
        """The end of the wait for the first item, which begins with the clock."""
        if self.first_item is not None and self.first_item < self.whole.seconds:
            when = self.began + self.first_item
            return _End(when, self.first_item, "first item", self.guard, self.began, fresh=True)
        return self.whole._replace(fresh=True)

    def next_end(self, now: float) -> _End:
        """The end of the wait for another item, which begins now."""
        if self.idle is not None and now + self.idle < self.whole.when:
            return _End(now + self.idle, self.idle, "idle", self.guard, self.began, fresh=True)
        return self.whole


class _Step:
    """Cuts one step of a stream. The deadline is the context's only meanwhile."""

    __slots__ = ("_deadline", "_end")

    def __init__(self, end: _End) -> None:
        self._end = end

    def __enter__(self) -> None:
        end = self._end
        task = running_task()
        loop = task.get_loop()
        if end.when <= loop.time():  # not every step waits, and only what waits can be cut
            raise end.guard.cut(end.clock, end.seconds)
        self._deadline = Deadline(task, end.when, end.guard, current_deadline())
        self._deadline.start(loop, queue_for(loop, end.seconds) if end.fresh else None)
        self._deadline.open()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._deadline.close() and isinstance(exc, asyncio.CancelledError):
            end = self._end
            if self._deadline.inherited:
                now = asyncio.get_running_loop().time()
                raise end.guard.cut("inherited", now - end.began) from exc
            raise end.guard.cut(end.clock, end.seconds) from exc


class _FreeStep:
    """A step without a clock."""

    def __enter__(self) -> None:
        """Nothing is set."""

    def __exit__(self, *error: object) -> None:
        """Nothing is taken back."""


_FREE: Final = _FreeStep()
