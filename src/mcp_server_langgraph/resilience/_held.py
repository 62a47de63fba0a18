"""Calls whose guards are held after the function has returned: an answer's body is still to come.

`Holder.begin` runs a function through a pipeline's guards up to its result, with retries up to there, and gives the
result and a `Held`, which is told later how it all ended. One way of writing serves coroutines and threads: `Ways` has
what waits, and `finish` runs a coroutine that never does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar

from ._key_guard import KeyGuard
from ._keyed_guard import KeyedAt
from ._link import CallMeter
from ._past import Past
from ._time_guards import TimeGuard
from .errors import ConfigurationError
from .policy import WAIT, Call, Guard, Policy, Repeat

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["THREAD", "Held", "Holder", "Ways", "finish", "of_loop"]

P = ParamSpec("P")
T = TypeVar("T")


class Ways(NamedTuple):
    """How a call waits. ``cuts``: whether a timeout can cut it."""

    now: Callable[[], float]
    place: Callable[[Guard], Awaitable[Any]]
    pause: Callable[[float], Awaitable[object]]
    cuts: bool


async def _place_on_loop(guard: Guard) -> Any:
    return await guard.wait()


async def _place_in_thread(guard: Guard) -> Any:
    return guard.wait_sync()


async def _pause_thread(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 (it is for threads: there is no loop to be held up)


THREAD: Final = Ways(time.monotonic, _place_in_thread, _pause_thread, cuts=False)


def of_loop() -> Ways:
    """How a coroutine waits on the running loop."""
    return Ways(asyncio.get_running_loop().time, _place_on_loop, asyncio.sleep, cuts=True)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing but `THREAD`'s ways, which block."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine waited that must not")


class Held:
    """The guards of a call that has its result. Told exactly once how it ended; forgotten, it ends as
    ``if_forgotten`` says then, which is neutral.
    """

    __slots__ = ("_began", "_meter", "_now", "_open", "entered", "if_forgotten")

    def __init__(self, meter: CallMeter, now: Callable[[], float]) -> None:
        self.entered: list[tuple[Guard, Any]] = []
        self.if_forgotten: Callable[[], BaseException] = GeneratorExit
        self._meter = meter
        self._now = now
        self._began = now()
        self._open = [True]  # emptied by whoever ends it, which may be any thread

    def succeeded(self) -> None:
        """All went well to the end."""
        if not self._ends():
            return
        now = self._now()
        while self.entered:
            guard, token = self.entered.pop()
            guard.succeeded(token, now)
        self._meter.histogram.observe(now - self._began)

    def failed(self, exc: BaseException) -> BaseException:
        """It broke off; gives what to raise."""
        if self._ends():
            exc = self.leave(exc)
            self._meter.ended(exc)
        return exc

    def abandoned(self) -> None:
        """Nobody wants the rest: neutral."""
        self.failed(GeneratorExit())

    def leave(self, exc: BaseException, keep: int = 0) -> BaseException:
        """Leave all guards but the first ``keep`` because of ``exc``; gives what to raise."""
        now = self._now()
        while len(self.entered) > keep:
            guard, token = self.entered.pop()
            exc = guard.failed(token, now, exc) or exc
        return exc

    def first_item_came(self) -> None:
        """The result is there, the rest begins to come."""
        now = self._now()
        for guard, token in self.entered:
            guard.first_item_came(token, now)

    def _ends(self) -> bool:
        try:
            return self._open.pop()
        except IndexError:
            return False

    def __del__(self) -> None:
        self.failed(self.if_forgotten())


class Holder:
    """A pipeline whose guards can be held. Raises `ConfigurationError` for policies that act in between: those, and
    timeouts that are not innermost, cannot be.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        bound = list(pipeline.bound)
        self.timers: list[TimeGuard] = []
        while bound and isinstance(timer := bound[-1], TimeGuard):
            self.timers.append(timer)
            bound.pop()
        at = next((index for index, node in enumerate(bound) if isinstance(node, Repeat)), None)
        self.site = pipeline.site
        self.repeat = None if at is None else bound[at]
        self.outer = [_holdable(pipeline.name, node) for node in bound[: at or 0]]
        self.inner = [_holdable(pipeline.name, node) for node in bound[0 if at is None else at + 1 :]]
        self._meter = next(meter for meter in pipeline.meters() if isinstance(meter, CallMeter))

    async def begin(
        self, ways: Ways, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, Held]:
        """The result of ``fn``, and what is to be told of its end. Raises as a call through the pipeline does."""
        held = Held(self._meter, ways.now)
        call = Call(fn, args, kwargs, self.site)
        try:
            if self.site.bypassed:
                return await fn(*args, **kwargs), held
            await _enter(self.outer, held, call, ways)
            result: T = await self._attempts(held, call, ways)
        except BaseException as exc:
            raised = held.failed(exc)
            if raised is exc:
                raise
            raise raised from exc
        held.first_item_came()
        return result, held

    async def _attempts(self, held: Held, call: Call, ways: Ways) -> Any:
        repeat = self.repeat
        if not isinstance(repeat, Repeat):
            return await self._attempt(held, call, ways)
        began = ways.now()
        past = Past(began)
        repeat.attempts.first += 1
        exc: BaseException | None = None
        try:
            while True:
                try:
                    result = await self._attempt(held, call, ways)
                except Exception as raw:
                    exc = held.leave(raw, keep=len(self.outer))
                    assert isinstance(exc, Exception)
                    step = repeat.again(
                        call.attempt, began, ways.now(), exc, past, call.fn, call.args, call.kwargs
                    )
                    if step is None:
                        raise exc from exc.__cause__
                    if isinstance(step, BaseException):
                        raise step  # noqa: B904 (what it came from, if anything, it carries already)
                else:
                    repeat.succeeded(call.attempt, ways.now() - past.since)
                    return result
                await ways.pause(step)
                call.attempt += 1
                past.since = ways.now()
        finally:
            past.end()
            exc = step = None  # an exception kept in its own frame is a cycle

    async def _attempt(self, held: Held, call: Call, ways: Ways) -> Any:
        await _enter(self.inner, held, call, ways)
        proceed: Callable[[Call], Awaitable[Any]] = _called
        for timer in self.timers if ways.cuts else ():
            proceed = partial(timer.run, proceed=proceed)
        return await proceed(call)


def _called(call: Call) -> Awaitable[Any]:
    awaitable: Awaitable[Any] = call.fn(*call.args, **call.kwargs)
    return awaitable


async def _enter(nodes: Sequence[Guard | KeyedAt], held: Held, call: Call, ways: Ways) -> None:
    for node in nodes:
        guard = KeyGuard(node, call) if isinstance(node, KeyedAt) else node
        token = guard.enter(ways.now())
        if token is WAIT:
            token = await ways.place(guard)
        held.entered.append((guard, token))


def _holdable(name: str, node: Guard | Repeat | Policy) -> Guard | KeyedAt:
    inner = node.example() if isinstance(node, KeyedAt) else node
    if isinstance(inner, Guard) and not isinstance(inner, TimeGuard):
        assert isinstance(node, Guard | KeyedAt)
        return node
    kind = inner.policy.kind if isinstance(inner, TimeGuard) else getattr(inner, "kind", type(inner).__name__)
    raise ConfigurationError(f"pipeline {name!r}: a {kind} cannot be held until an answer's body has ended")
