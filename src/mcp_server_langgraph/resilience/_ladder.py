"""A fallback at work in one pipeline: the rungs that may answer for an error, tried in order."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _functions, events
from ._memory import NOTHING
from ._rungs import LastGood, Rung
from ._source import Source, relayed
from .deadline import now, passed
from .degradation import note_degradation
from .errors import TimedOut
from .metrics import Sample
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync, Site

if TYPE_CHECKING:
    from .fallback import Fallback


class Ladder(Policy):
    """The ladder of one pipeline."""

    kind = "fallback"

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

    def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        return relayed(partial(self._opened, call, proceed))

    async def _opened(self, call: Call, proceed: ProceedStream) -> tuple[Source, Any]:
        """The function's stream or a rung's, with its first item."""
        question = _Question(call)
        source = Source(proceed(call))
        try:
            return source, await source.next()
        except Exception as exc:
            await source.close()
            other = await self._other_stream(question, exc)
            if other is None:
                raise
            return other
        except BaseException:
            await source.close()
            raise

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
