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

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from . import _functions, _stack, events
from ._functions import END, Source
from ._memory import NOTHING as NOTHING
from ._memory import Memory
from .deadline import now, passed
from .degradation import note_degradation
from .errors import ConfigurationError, TimedOut
from .metrics import Sample
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site

__all__ = ["Fallback", "LastGood", "Rung", "Value", "with_fallback"]

F = TypeVar("F", bound=Callable[..., Any])


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

    ``key`` makes the cache key from the arguments (default: the arguments themselves); a call whose key cannot be made
    or hashed is not remembered, which is logged once. ``max_size`` bounds the number of remembered answers, the least
    recently used go first. Memory is this object's. Answers of calls are kept, not those of streams.

    Raises `ConfigurationError` for values out of range.
    """

    def __init__(
        self, max_age: float, *, key: Callable[..., Any] | None = None, max_size: int = 1024
    ) -> None:
        if not max_age > 0 or max_size < 1:
            raise ConfigurationError(
                f"LastGood: max_age={max_age!r} must be above 0, max_size={max_size!r} at least 1"
            )
        self.max_age = max_age
        self._answers = Memory("LastGood", max_size, key)

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, now: float) -> None:
        """Keep a good answer."""
        key = self._answers.key_of(args, kwargs)
        if key is not NOTHING:
            self._answers.put(key, result, now)

    def recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> tuple[float, Any] | None:
        """The age and the answer; None where there is none that is fresh enough."""
        known = self._answers.get(self._answers.key_of(args, kwargs), now, self.max_age)
        return None if known is None else (known.age, known.value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer, or `NOTHING`."""
        known = self.recall(args, kwargs, now())
        return NOTHING if known is None else known[1]


class Fallback(Policy):
    """A ladder of rungs: functions, `Value`, `LastGood`, or `Rung` for the details.

    ``also``: exception types that every rung answers for beside unavailability. Around an async generator a rung gives
    a stream, or one value that is then the only item.

    Raises `ConfigurationError` without rungs, or for one that cannot be called.
    """

    kind: ClassVar[str] = "fallback"

    def __init__(self, *rungs: Rung | Callable[..., Any], also: tuple[type[BaseException], ...] = ()) -> None:
        if not rungs:
            raise ConfigurationError("Fallback: at least one rung is needed")
        self.rungs = tuple(rung if isinstance(rung, Rung) else Rung(rung) for rung in rungs)
        for rung in self.rungs:
            if not callable(rung.answer):
                raise ConfigurationError(
                    f"Fallback: {rung.answer!r} is no function; a fixed answer is a Value"
                )
        self.also = also
        self._memories = [rung.answer for rung in self.rungs if isinstance(rung.answer, LastGood)]

    @property
    def refuses_sync(self) -> str | None:
        """Why it cannot guard a plain function; None where it can."""
        waiting = [rung.label for rung in self.rungs if _functions.kind_of(rung.answer) != "sync"]
        return f"its rung {waiting[0]} is asynchronous" if waiting else None

    def settings(self) -> dict[str, Any]:
        """The rungs, by name."""
        return {"rungs": [rung.label for rung in self.rungs]}

    def bind(self, site: Site) -> Policy:
        """The ladder of one pipeline."""
        return _Ladder(self, site)

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Give a good answer to the rungs that keep one."""
        for memory in self._memories:
            memory.remember(args, kwargs, result, now())


class _Ladder(Policy):
    kind = Fallback.kind

    def __init__(self, policy: Fallback, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.meter = self.counts = _FallbackMeter(site)

    async def run(self, call: Call, proceed: Proceed) -> Any:
        question = _Question(call)
        try:
            result = await proceed(call)
        except Exception as exc:
            for rung in self._rungs_for(exc):
                answer = self._begin(rung, question, exc)
                if inspect.isawaitable(answer):
                    answer = await self._finish(rung, answer)
                if answer is not NOTHING:
                    return self._used(rung, question, exc, answer)
            raise
        self.policy.remember(question.args, question.kwargs, result)
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        question = _Question(call)
        try:
            result = proceed(call)
        except Exception as exc:
            for rung in self._rungs_for(exc):
                answer = self._begin(rung, question, exc)
                if inspect.isawaitable(answer):
                    _functions.refuse_awaitable(answer)
                if answer is not NOTHING:
                    return self._used(rung, question, exc, answer)
            raise
        self.policy.remember(question.args, question.kwargs, result)
        return result

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        question = _Question(call)
        source = Source(proceed(call))
        try:
            try:
                item = await source.next()
            except Exception as exc:
                await source.close()
                other = await self._other_stream(question, exc)
                if other is None:
                    raise
                source, item = other
            while item is not END:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    item = await source.throw(thrown)
                else:
                    item = await source.next(sent)
        finally:
            await source.close()

    async def _other_stream(self, question: _Question, exc: Exception) -> tuple[Source, Any] | None:
        """A rung's stream, with its first item; a rung that breaks before it is like one without an answer."""
        for rung in self._rungs_for(exc):
            answer = self._begin(rung, question, exc)
            if inspect.isawaitable(answer):
                answer = await self._finish(rung, answer)
            if answer is NOTHING:
                continue
            source = Source(aiter(answer) if hasattr(answer, "__aiter__") else _only(answer))
            item = await self._finish(rung, source.next())
            if item is not NOTHING:
                return source, self._used(rung, question, exc, item)
            await source.close()
        return None

    def _rungs_for(self, exc: Exception) -> Iterator[Rung]:
        if passed():
            return
        unavailable = self.site.verdict(exc).unavailable or isinstance(exc, self.policy.also)
        rungs = [rung for rung in self.policy.rungs if unavailable or isinstance(exc, rung.also)]
        own_time_is_up = isinstance(exc, TimedOut) and exc.clock == "total" and exc.pipeline == self.site.name
        for rung in rungs:
            if not (own_time_is_up and rung.takes_time):
                yield rung
        if rungs:
            self.counts.failed += 1
            events.emit("fallback_failed", self.site.name, error=type(exc).__name__)

    def _begin(self, rung: Rung, question: _Question, exc: Exception) -> Any:
        args = (
            (exc, *question.args)
            if rung.with_error and not isinstance(rung.answer, LastGood)
            else question.args
        )
        try:
            return rung.answer(*args, **question.kwargs)
        except Exception as error:
            return self._broke(rung, error)

    async def _finish(self, rung: Rung, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except Exception as error:
            return self._broke(rung, error)

    def _broke(self, rung: Rung, error: Exception) -> Any:
        kind = type(error).__name__  # and not its words, which may tell what was asked
        events.logger.warning("rung %s of %s has no answer: %s", rung.label, self.site.name, kind)
        return NOTHING

    def _used(self, rung: Rung, question: _Question, exc: Exception, answer: Any) -> Any:
        age = None
        if isinstance(rung.answer, LastGood):
            known = rung.answer.recall(question.args, question.kwargs, now())
            age = known[0] if known is not None else None
        self.counts.used[rung.label] = self.counts.used.get(rung.label, 0) + 1
        reason = type(exc).__name__
        note_degradation(self.site.name, reason, rung.label, age)
        events.emit("fallback", self.site.name, source=rung.label, error=reason)
        return answer


class _Question:
    """The arguments as the caller gave them; a retry further in may add an idempotency key to those of the call."""

    __slots__ = ("args", "kwargs")

    def __init__(self, call: Call) -> None:
        self.args = call.args
        self.kwargs = call.kwargs


class _FallbackMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.used: dict[str, int] = {}
        self.failed = 0

    def samples(self) -> Iterator[Sample]:
        for source, count in list(self.used.items()):
            yield Sample("fallback_used_total", (self.site.name, source), count)
        yield Sample("fallback_failed_total", (self.site.name,), self.failed)


async def _only(item: Any) -> AsyncGenerator[Any, None]:
    yield item


def with_fallback(*rungs: Rung | Callable[..., Any], **options: Any) -> Callable[[F], F]:
    """Decorate a function with a ladder of fallbacks (see `Fallback`); it belongs on top of a stack."""

    def decorate(fn: F) -> F:
        return _stack.add(Fallback(*rungs, **options), fn)

    return decorate
