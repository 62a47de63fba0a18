"""Fallback: where the dependency cannot answer, something less good may, and says so.

A ladder of rungs, tried in order: a function with the same arguments, a fixed `Value`, the `LastGood` value with its
age. Only for unavailability (`outcome.Verdict.unavailable`): never for bugs, client errors, cancellation or a deadline
that the caller set. An open circuit falls back; the layer's other rejections (full, limited, shed) only where a rung
says so. After our own time ran out only rungs that do not wait are tried.

It stands outermost in a pipeline: further in, its answers would count as successes of the dependency.

Errors: the original one, where no rung has an answer. Events: ``fallback``, ``fallback_failed``. Metrics:
``fallback_*``; and `degradation.collect_degradations` hears of it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from . import _functions, _stack, events
from .degradation import note_degradation
from .errors import ConfigurationError, TimedOut
from .metrics import Sample
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site

__all__ = ["Fallback", "LastGood", "Rung", "Value", "with_fallback"]

F = TypeVar("F", bound=Callable[..., Any])

# A rung gives this where it has no answer.
NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder.

    ``answer``: a function (``def`` or ``async def``) with the guarded one's arguments. ``source``: what the
    degradation note calls it. ``also``: exception types that it answers for beside unavailability (for example
    `BulkheadFull`). ``with_error``: the error comes as the first argument. ``waits``: it may take time, so it is not
    tried after our own time ran out (default: whether it is asynchronous).
    """

    answer: Callable[..., Any]
    source: str | None = None
    also: tuple[type[BaseException], ...] = ()
    with_error: bool = False
    waits: bool | None = None

    @property
    def label(self) -> str:
        """What the note calls it."""
        return self.source or _functions.qualified_name(self.answer)

    @property
    def takes_time(self) -> bool:
        """Whether it is out of question once our own time ran out."""
        return _functions.kind_of(self.answer) != "sync" if self.waits is None else self.waits


class Value:
    """A rung that always gives the same value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value."""
        return self.value


class LastGood:
    """A rung that gives the last good answer to the same question, up to ``max_age`` seconds old (> 0).

    ``key`` makes the cache key from the arguments (default: the arguments themselves, which must be hashable);
    ``max_size`` bounds the number of remembered answers, the least recently used go first. Memory is this object's.
    """

    def __init__(self, max_age: float, *, key: Callable[..., Any] | None = None, max_size: int = 1024) -> None:
        if not max_age > 0 or max_size < 1:
            raise ConfigurationError(f"LastGood: max_age={max_age!r} must be above 0, max_size={max_size!r} at least 1")
        self.max_age = max_age
        self._key = key or _arguments
        self._max_size = max_size
        self._good: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, now: float) -> None:
        """Keep a good answer."""
        key = self._key(*args, **kwargs)
        self._good[key] = (now, result)
        self._good.move_to_end(key)
        while len(self._good) > self._max_size:
            self._good.popitem(last=False)

    def recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> tuple[float, Any] | None:
        """The age and the answer; None where there is none that is fresh enough."""
        known = self._good.get(self._key(*args, **kwargs))
        if known is None or now - known[0] > self.max_age:
            return None
        return now - known[0], known[1]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer, or `NOTHING`."""
        known = self.recall(args, kwargs, _now())
        return NOTHING if known is None else known[1]


class Fallback(Policy):
    """A ladder of rungs: functions, `Value`, `LastGood`, or `Rung` for the details.

    ``also``: exception types that every rung answers for beside unavailability. Raises `ConfigurationError` without rungs.
    """

    kind: ClassVar[str] = "fallback"

    def __init__(self, *rungs: Rung | Callable[..., Any], also: tuple[type[BaseException], ...] = ()) -> None:
        if not rungs:
            raise ConfigurationError("Fallback: at least one rung is needed")
        self.rungs = tuple(rung if isinstance(rung, Rung) else Rung(rung) for rung in rungs)
        self.also = also
        self._memories = [rung.answer for rung in self.rungs if isinstance(rung.answer, LastGood)]

    def settings(self) -> dict[str, Any]:
        """The rungs, by name."""
        return {"rungs": [rung.label for rung in self.rungs]}

    def bind(self, site: Site) -> Policy:
        """The ladder of one pipeline."""
        return _Ladder(self, site)

    def remember(self, call: Call, result: Any) -> None:
        """Give a good answer to the rungs that keep one."""
        for memory in self._memories:
            memory.remember(call.args, call.kwargs, result, _now())


class _Ladder(Policy):
    kind = Fallback.kind

    def __init__(self, policy: Fallback, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = self.counts = _FallbackMeter(site)

    async def run(self, call: Call, proceed: Proceed) -> Any:
        try:
            result = await proceed(call)
        except Exception as exc:
            return await self._answer(call, exc)
        self.policy.remember(call, result)
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        try:
            result = proceed(call)
        except Exception as exc:
            for rung in self._rungs_for(exc):
                answer = self._begin(rung, call, exc)
                if inspect.isawaitable(answer):
                    raise TypeError(f"rung {rung.label} is asynchronous, the guarded function is not") from exc
                if answer is not NOTHING:
                    return self._used(rung, call, exc, answer)
            raise
        self.policy.remember(call, result)
        return result

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        began = False
        try:
            async for item in proceed(call):
                began = True
                yield item
        except Exception as exc:
            if began:
                raise
            source = await self._answer(call, exc)
        else:
            return
        if not hasattr(source, "__aiter__"):
            yield source
            return
        async for item in source:
            yield item

    async def _answer(self, call: Call, exc: Exception) -> Any:
        for rung in self._rungs_for(exc):
            answer = self._begin(rung, call, exc)
            if inspect.isawaitable(answer):
                answer = await self._finish(rung, answer)
            if answer is not NOTHING:
                return self._used(rung, call, exc, answer)
        raise exc

    def _rungs_for(self, exc: Exception) -> Iterator[Rung]:
        verdict = self.site.verdict(exc)
        unavailable = verdict.unavailable or isinstance(exc, self.policy.also)
        hurried = isinstance(exc, TimedOut) and exc.clock != "attempt"
        tried = False
        for rung in self.policy.rungs:
            if (unavailable or isinstance(exc, rung.also)) and not (hurried and rung.takes_time):
                tried = True
                yield rung
        if tried:
            self.counts.failed += 1
            events.emit("fallback_failed", self.site.name, error=type(exc).__name__)

    def _begin(self, rung: Rung, call: Call, exc: Exception) -> Any:
        args = (exc, *call.args) if rung.with_error else call.args
        try:
            return rung.answer(*args, **call.kwargs)
        except Exception:
            self._broke(rung)
            return NOTHING

    async def _finish(self, rung: Rung, answer: Any) -> Any:
        try:
            return await answer
        except Exception:
            self._broke(rung)
            return NOTHING

    def _broke(self, rung: Rung) -> None:
        events.logger.warning("rung %s of %s has no answer", rung.label, self.site.name, exc_info=True)

    def _used(self, rung: Rung, call: Call, exc: Exception, answer: Any) -> Any:
        age = None
        if isinstance(rung.answer, LastGood):
            known = rung.answer.recall(call.args, call.kwargs, _now())
            age = known[0] if known is not None else None
        self.counts.used[rung.label] = self.counts.used.get(rung.label, 0) + 1
        reason = type(exc).__name__
        note_degradation(self.site.name, reason, rung.label, age)
        events.emit("fallback", self.site.name, source=rung.label, error=reason)
        return answer


class _FallbackMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.used: dict[str, int] = {}
        self.failed = 0

    def samples(self) -> Iterator[Sample]:
        for source, count in list(self.used.items()):
            yield Sample("fallback_used_total", (self.site.name, source), count)
        yield Sample("fallback_failed_total", (self.site.name,), self.failed)


def _arguments(*args: Any, **kwargs: Any) -> Any:
    return (args, tuple(sorted(kwargs.items()))) if kwargs else args


def _now() -> float:
    loop = asyncio._get_running_loop()
    return time.monotonic() if loop is None else loop.time()


def with_fallback(*rungs: Rung | Callable[..., Any], **options: Any) -> Callable[[F], F]:
    """Decorate a function with a ladder of fallbacks (see `Fallback`); it belongs on top of a stack."""

    def decorate(fn: F) -> F:
        return _stack.add(Fallback(*rungs, **options), fn)

    return decorate
