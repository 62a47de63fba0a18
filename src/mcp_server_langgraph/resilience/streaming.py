"""The same policies around async generators.

A stream has four clocks: the time to its first item (connecting included), the idle time between items, the time of
one attempt and the total. They run while we wait for the stream, step by step, so that no deadline is ever left in
the consumer's context. Before the first item retry and fallback are free to act; after it an interruption is a
`StreamInterrupted` with what was received. Guards are held from the first attempt to the end of the stream, and its
outcome is recorded there; a consumer that stops early (``aclose``, ``break`` in ``aclosing``) is neutral.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .deadline import current_deadline
from .errors import DeadlineExceeded, StreamInterrupted, TimedOut
from .outcome import Outcome
from .policy import WAIT, Call, Guard, Policy, Repeat, Site
from .timeout import AttemptGuard, TimeGuard, timeout

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["KEPT_ITEMS", "as_function", "stream"]

# How many of the last items `StreamInterrupted.received` keeps.
KEPT_ITEMS: Final = 1000

Stream = AsyncGenerator[Any, Any]
Proceed = Callable[[Call], Stream]

_END: Final = object()


def as_function(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Stream]:
    """An async generator function that runs ``fn`` through the pipeline."""

    async def frame(*args: Any, **kwargs: Any) -> Stream:
        source = stream(pipeline, fn, args, kwargs)
        item = await _start(source)
        try:
            while item is not _END:
                item = await _pass_on(source, (yield item))
        finally:
            await source.aclose()

    return frame


async def _start(source: Stream) -> Any:
    return await anext(source, _END)


async def _pass_on(source: Stream, sent: Any) -> Any:
    try:
        return await source.asend(sent)
    except StopAsyncIteration:
        return _END


def stream(pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream:
    """``fn(*args, **kwargs)`` through the policies of the pipeline."""
    call = Call(fn, args, kwargs, pipeline.site)
    if pipeline.site.bypassed:
        return _source(call)
    return _chain(list(pipeline.bound), pipeline.site)(call)


def _source(call: Call) -> Stream:
    source: Stream = call.fn(*call.args, **call.kwargs)
    if not hasattr(source, "__anext__"):
        raise TypeError(f"{call.fn!r} gave {type(source).__name__}, not an async generator")
    return source


def _chain(bound: list[Guard | Repeat | Policy], site: Site) -> Proceed:
    around = next((index for index, item in enumerate(bound) if isinstance(item, Policy)), None)
    if around is None:
        return lambda call: _segment(bound, call, _source, site)
    policy, rest = bound[around], _chain(bound[around + 1 :], site)
    assert isinstance(policy, Policy)

    def proceed(call: Call) -> Stream:
        return policy.stream(call, rest)

    head = bound[:around]
    return (lambda call: _segment(head, call, proceed, site)) if head else proceed


async def _segment(nodes: list[Guard | Repeat | Policy], call: Call, proceed: Proceed, site: Site) -> Stream:
    """Guards, an optional retry, guards."""
    at = next((index for index, node in enumerate(nodes) if isinstance(node, Repeat)), None)
    outer = _Entered(nodes if at is None else nodes[:at], site)
    repeat = None if at is None else nodes[at]
    assert repeat is None or isinstance(repeat, Repeat)
    attempt = _Attempt(call, proceed, [] if at is None else nodes[at + 1 :], outer, site)
    try:
        await outer.enter()
        item = await _until_first(attempt, repeat, call)
        while item is not _END:
            attempt.keep(item)
            sent = yield item
            item = await attempt.next(sent)
    except BaseException as exc:
        raised = await attempt.failed(exc)
        raised = outer.failed(raised)
        if raised is exc:
            raise
        raise raised from (raised.__cause__ or exc)
    await attempt.succeeded()
    outer.succeeded()


async def _until_first(attempt: _Attempt, repeat: Repeat | None, call: Call) -> Any:
    """Attempts until one gives its first item."""
    if repeat is None:
        return await attempt.first()
    clock = asyncio.get_running_loop().time
    began = clock()
    last: Exception | None = None
    if repeat.keyed:
        call.kwargs = repeat.with_key(call.kwargs)
    repeat.attempts.first += 1
    while True:
        try:
            item = await attempt.first()
        except Exception as raw:
            exc = await attempt.failed(raw)
            assert isinstance(exc, Exception)
            step = repeat.again(call.attempt, began, clock(), exc, last, call.fn, call.args, call.kwargs)
            if not isinstance(step, float):
                raise (step or exc) from exc.__cause__
            last = exc
        else:
            if call.attempt > 1:
                repeat.recovered(call.attempt)
            return item
        await asyncio.sleep(step)
        call.attempt += 1


class _Entered:
    """Guards that were entered together and are left together, the innermost first."""

    def __init__(self, guards: Sequence[Guard | Repeat | Policy], site: Site) -> None:
        self.guards = [guard for guard in guards if isinstance(guard, Guard)]
        self.site = site
        self.tokens: list[tuple[Guard, Any]] = []
        self.clocks: list[_Clock] = []

    async def enter(self) -> None:
        now = asyncio.get_running_loop().time()
        for guard in self.guards:
            if isinstance(guard, TimeGuard):
                self.clocks.append(_Clock(guard, now))
                continue
            token = guard.enter(now)
            if token is WAIT:
                token = await guard.wait()
            self.tokens.append((guard, token))

    def failed(self, exc: BaseException) -> BaseException:
        now = asyncio.get_running_loop().time()
        raised = exc
        while self.tokens:
            guard, token = self.tokens.pop()
            raised = guard.failed(token, now, raised) or raised
        return raised

    def succeeded(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.tokens:
            guard, token = self.tokens.pop()
            guard.succeeded(token, now)


class _Clock:
    """A timeout's clocks for one stream."""

    def __init__(self, guard: TimeGuard, began: float) -> None:
        self.guard = guard
        self.began = began
        self.name = "attempt" if isinstance(guard, AttemptGuard) else "total"

    def left(self, now: float, *, first: bool) -> tuple[float, str]:
        """Seconds that the next step may take, and the name of the clock that says so."""
        policy = self.guard.policy
        whole = (self.began + policy.seconds - now, self.name)
        step = (policy.first_item, "first item") if first else (policy.idle, "idle")
        return whole if step[0] is None else min(whole, (step[0], step[1]))


class _Attempt:
    """One attempt at a stream: its guards, its source, its clocks."""

    def __init__(
        self, call: Call, proceed: Proceed, guards: Sequence[Guard | Repeat | Policy], outer: _Entered, site: Site
    ) -> None:
        self.call = call
        self.proceed = proceed
        self.guards = guards
        self.outer = outer
        self.site = site
        self.entered = _Entered((), site)
        self.source: Stream | None = None
        self.received: deque[Any] = deque(maxlen=KEPT_ITEMS)
        self.count = 0

    def keep(self, item: Any) -> None:
        self.received.append(item)
        self.count += 1

    async def first(self) -> Any:
        self.entered = _Entered(self.guards, self.site)
        await self.entered.enter()
        self.source = self.proceed(self.call)
        return await self._step(None)

    async def next(self, sent: Any) -> Any:
        return await self._step(sent)

    async def _step(self, sent: Any) -> Any:
        assert self.source is not None
        now = asyncio.get_running_loop().time()
        clocks = [(*clock.left(now, first=not self.count), clock) for clock in (*self.outer.clocks, *self.entered.clocks)]
        seconds, name, clock = min(clocks, key=lambda each: each[0], default=(None, "", None))
        if clock is None:
            return await _pass_on(self.source, sent)
        _refuse_expired(self.site.name, now)
        try:
            async with timeout(seconds, name=self.site.name, clock=name):
                return await _pass_on(self.source, sent)
        except TimedOut as exc:
            if exc.clock == name and exc.pipeline == self.site.name:
                clock.guard.cut(exc, name, now - clock.began + (seconds or 0.0))
            raise

    async def failed(self, exc: BaseException) -> BaseException:
        """Close the source, tell the guards, and give what to raise."""
        await self._close()
        raised = self.entered.failed(exc)
        if self.count and isinstance(raised, Exception) and self.site.verdict(raised).outcome is Outcome.FAILURE:
            interrupted = StreamInterrupted(self.site.name, tuple(self.received), self.count)
            interrupted.__cause__ = raised
            return interrupted
        return raised

    async def succeeded(self) -> None:
        await self._close()
        self.entered.succeeded()

    async def _close(self) -> None:
        source, self.source = self.source, None
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


def _refuse_expired(name: str, now: float) -> None:
    deadline = current_deadline()
    if deadline is not None and deadline.when <= now:
        raise DeadlineExceeded(name)
