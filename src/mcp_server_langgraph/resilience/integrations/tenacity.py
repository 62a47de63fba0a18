"""tenacity's ``AsyncRetrying`` at a fiftieth of its cost where the first attempt succeeds; else it is tenacity.

    from mcp_server_langgraph.resilience.integrations.tenacity import retry

    @retry(stop=stop_after_attempt(3), wait=wait_exponential(), reraise=True)
    async def fetch() -> str: ...

tenacity builds a copy of itself, a state, a future and a list of actions for every call. Here nothing is built until an
attempt fails, where nobody would look at it: ``before`` does nothing, and ``retry`` cannot want another *result*. From
the first failure on (or from the beginning, where somebody looks) it goes the way of tenacity, with the objects of
tenacity, and passes its test suite.

What is another way on purpose, and why:

- What is not an ``Exception`` (a cancellation, ``KeyboardInterrupt``, ``GeneratorExit``) ends the call at once and is
  offered to nobody. Under tenacity ``retry_if_exception(lambda e: True)`` swallows a cancellation.
- No sleep is begun at whose end the deadline of the caller (`deadline`) has passed: it ends as if ``stop`` had said so.
- An exception that is given up on carries the mark of `stacking`, so that a `Retry` further up does not multiply.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Final

import tenacity
import tenacity.asyncio
from tenacity import AttemptManager, RetryCallState, before_nothing

from .._retry_state import only_exceptions
from ._tenacity_loop import Statistics, begin, first_failure, follow, is_asynchronous, run

__all__ = ["AsyncRetrying", "Attempt", "install", "retry"]

_COPIED: Final = (*functools.WRAPPER_ASSIGNMENTS, "__defaults__", "__kwdefaults__")


# From 9.2 on the retry object of a decorated function has the statistics of its last call.
_SHOWS_LAST_CALL: Final = "enabled" in inspect.signature(tenacity.BaseRetrying).parameters


class Attempt(AttemptManager):
    """One attempt of an ``async for``; it keeps an ``Exception`` for the next turn and lets anything else pass."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if exc_value is not None and not isinstance(exc_value, Exception):
            return None
        return super().__exit__(exc_type, exc_value, traceback)


class AsyncRetrying(tenacity.AsyncRetrying):
    """``tenacity.AsyncRetrying``: the same arguments, attributes and errors."""

    enabled: bool = True  # tenacity before 9.2 cannot be switched off

    _plain: object = None  # the retry condition of which is known that it never wants another result

    async def __call__(  # type: ignore[override]
        self, fn: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Call ``fn`` until the conditions are met. Raises what tenacity raises."""
        call = _awaitable(fn)
        if not self.enabled:
            return await call(*args, **kwargs)
        began = begin(self.statistics)
        if (self.retry is not self._plain or self.before is not before_nothing) and self._is_watched():
            return await run(RetryCallState(self, fn, args, kwargs), call)
        try:
            return await call(*args, **kwargs)
        except Exception as exc:
            state = first_failure(self, fn, args, kwargs, began, exc)
        return await run(state, call)

    def wraps(self, fn: Callable[..., Any]) -> Any:
        """Decorate ``fn``; the function has ``retry``, ``retry_with`` and ``statistics``, as under tenacity."""
        call = _awaitable(fn)

        @functools.wraps(fn, _COPIED)
        async def retried(*args: Any, **kwargs: Any) -> Any:
            if not self.enabled:
                return await call(*args, **kwargs)
            # One dict for all calls, as in tenacity 9.2: decorators further out have copied the reference.
            statistics: Statistics = decorated.statistics
            began = begin(statistics)
            if _SHOWS_LAST_CALL:
                self._local.statistics = statistics
            if (self.retry is not self._plain or self.before is not before_nothing) and self._is_watched():
                return await run(RetryCallState(self._copy(statistics), fn, args, kwargs), call)
            try:
                return await call(*args, **kwargs)
            except Exception as exc:
                state = first_failure(self._copy(statistics), fn, args, kwargs, began, exc)
            return await run(state, call)

        def retry_with(*args: Any, **kwargs: Any) -> Any:
            return self.copy(*args, **kwargs).wraps(fn)

        decorated: Any = retried
        decorated.retry = self
        decorated.retry_with = retry_with
        decorated.statistics = {}
        return decorated

    async def iter(self, retry_state: RetryCallState) -> Any:
        """What is to be done next for ``retry_state``."""
        return await follow(self, retry_state)

    async def __anext__(self) -> AttemptManager:
        """The next attempt of an ``async for``."""
        attempt = await super().__anext__()
        return Attempt(attempt.retry_state)

    def _is_watched(self) -> bool:
        """Whether somebody looks at an attempt before it, or at its result. Asked where it is not plain to see."""
        if not only_exceptions(self.retry):
            return True
        self._plain = self.retry
        return self.before is not before_nothing and self.before is not None

    def _copy(self, statistics: Statistics) -> AsyncRetrying:
        """What a call's strategies see as the retry object: one of its own, with its statistics."""
        copy = self.copy()
        copy._local.statistics = statistics
        return copy


def _awaitable(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    # The usual case is seen at once: asking `inspect` costs more than the rest of a call.
    if (isinstance(fn, FunctionType) and fn.__code__.co_flags & inspect.CO_COROUTINE) or is_asynchronous(fn):
        return fn

    async def awaitable(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return awaitable


if TYPE_CHECKING:
    from tenacity import retry
else:

    def retry(*args: Any, **kwargs: Any) -> Any:
        """``tenacity.retry`` with this ``AsyncRetrying`` for coroutine functions; others are tenacity's own affair."""
        if len(args) == 1 and callable(args[0]):
            return retry()(args[0])

        def decorate(fn: Callable[..., Any]) -> Any:
            decorated = tenacity.retry(*args, **kwargs)(fn)
            if isinstance(decorated.retry, tenacity.AsyncRetrying):  # what it takes for asynchronous
                return AsyncRetrying(*args, **kwargs).wraps(fn)
            return decorated

        return decorate


def install() -> Callable[[], None]:
    """Put this ``AsyncRetrying`` in the place of tenacity's, for libraries that retry with tenacity by themselves.

    Call it before they are imported: what they have taken from tenacity by then stays. Gives a function that undoes it.
    """
    before = tenacity.AsyncRetrying
    _install(AsyncRetrying)
    return lambda: _install(before)


def _install(retrying: type[tenacity.AsyncRetrying]) -> None:
    for module in (tenacity, tenacity.asyncio):
        vars(module)["AsyncRetrying"] = retrying
