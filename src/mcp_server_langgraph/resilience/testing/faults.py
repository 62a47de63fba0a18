"""Dependencies that do as they are told, to test what is around them.

    service = Scripted(ConnectionError(), Slow(2, "late"), HANG)      # one step a call, then "fine"
    flaky(fetch, ConnectionError(), None)                             # fails once, then fetches
    drip([1, 2, 3], every=0.5), drip([1, 2], then=ConnectionError())  # streams that are slow, or break

They wait on the running loop's clock, so in virtual time they cost none. Errors come as they are given; one that is to
look like an HTTP client's is a `StatusError`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, ParamSpec, TypeVar

__all__ = ["HANG", "Asked", "Scripted", "Slow", "StatusError", "drip", "flaky"]

P = ParamSpec("P")
T = TypeVar("T")


class _Hang:
    """A step that never ends."""

    def __repr__(self) -> str:
        return "HANG"


HANG: Final = _Hang()


@dataclass(frozen=True, slots=True)
class Slow:
    """A step that takes ``seconds``, and then is the step ``then``: an answer, an error, or `HANG`."""

    seconds: float
    then: Any = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a `Scripted` dependency got: when (the loop's time) and with what."""

    at: float
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class StatusError(Exception):
    """An error as HTTP clients raise it: ``response.status_code`` and ``response.headers``. In the names of headers, an
    underscore stands for a hyphen: ``StatusError(503, retry_after="3")``.
    """

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(status_code=status, headers=named)


class Scripted:
    """An asynchronous dependency with a script: a step for each call, then ``then`` for ever.

    A step is an answer, an exception to raise, a `Slow` step, or `HANG`. Each call takes ``lasts`` seconds before its
    step. ``asked`` lists the calls, ``running`` counts those under way, ``most`` the most of them at once.
    """

    def __init__(self, *steps: Any, then: Any = "fine", lasts: float = 0.0) -> None:
        self.script = list(steps)
        self.then = then
        self.lasts = lasts
        self.asked: list[Asked] = []
        self.running = 0
        self.most = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the next step."""
        self.asked.append(Asked(asyncio.get_running_loop().time(), args, kwargs))
        step = self.script.pop(0) if self.script else self.then
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.lasts)
            return await _done(step)
        finally:
            self.running -= 1
            del step  # an exception kept in its own frame is a cycle


def flaky(fn: Callable[P, Awaitable[T]], *steps: Any) -> Callable[P, Awaitable[T]]:
    """``fn`` behind a script: each call does the next step, and where that is None (and after the last one) calls
    ``fn``. A step that gives an answer gives it instead of ``fn``.
    """
    script = list(steps)

    @functools.wraps(fn)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        step = script.pop(0) if script else None
        try:
            answer = await _done(step)
        finally:
            del step  # an exception kept in its own frame is a cycle
        return await fn(*args, **kwargs) if answer is None else answer

    return guarded


async def drip(
    items: Iterable[T], *, every: float = 0.0, then: BaseException | None = None
) -> AsyncGenerator[T, None]:
    """A stream that takes ``every`` seconds for each item, and breaks with ``then`` after the last one (None: ends)."""
    for item in items:
        await asyncio.sleep(every)
        yield item
    try:
        if then is not None:
            raise then
    finally:
        del then  # an exception kept in its own frame is a cycle


async def _done(step: Any) -> Any:
    while isinstance(step, Slow):
        await asyncio.sleep(step.seconds)
        step = step.then
    if step is HANG:
        await asyncio.get_running_loop().create_future()
    try:
        if isinstance(step, BaseException):
            raise step
        return step
    finally:
        del step  # an exception kept in its own frame is a cycle
