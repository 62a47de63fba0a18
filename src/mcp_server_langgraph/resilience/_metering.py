"""What policies have in common that take something before a call and learn from its result what it really used.

They look at arguments and results, which a guard does not see: so they run in the general form. The items of a stream
are looked at one by one, as the last of them often tells what all of them used.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

from . import events
from ._functions import END, Source
from .deadline import current_deadline
from .errors import ConfigurationError
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync

__all__ = ["Metered", "amount", "asked", "checked", "now", "patience"]

E = TypeVar("E")
R = TypeVar("R")


class Metered(Policy, Generic[E]):
    """A policy at a site that has an entry for each call, from before it until its result is known."""

    async def begin(self, call: Call) -> E:
        """Take what the call is thought to need; raise `Rejected` where it may not begin."""
        raise NotImplementedError

    def begin_sync(self, call: Call) -> E:
        """The same, blocking the thread."""
        raise NotImplementedError

    def saw(self, entry: E, result: Any) -> None:
        """The call gave this: its result, or an item of its stream."""

    def ended(self, entry: E) -> None:
        """It gave all there was, or its consumer wants no more."""

    def failed(self, entry: E, exc: BaseException) -> None:
        """It raised."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        """Around a coroutine function."""
        entry = await self.begin(call)
        try:
            result = await proceed(call)
        except BaseException as exc:
            self.failed(entry, exc)
            raise
        self.saw(entry, result)
        self.ended(entry)
        return result

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        """Around a plain function."""
        entry = self.begin_sync(call)
        try:
            result = proceed(call)
        except BaseException as exc:
            self.failed(entry, exc)
            raise
        self.saw(entry, result)
        self.ended(entry)
        return result

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        """Around an async generator."""
        entry = await self.begin(call)
        source = Source(proceed(call))
        try:
            item = await source.next()
            while item is not END:
                self.saw(entry, item)
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    item = await source.throw(thrown)
                else:
                    item = await source.next(sent)
        except GeneratorExit:
            self.ended(entry)
            raise
        except BaseException as exc:
            self.failed(entry, exc)
            raise
        else:
            self.ended(entry)
        finally:
            await source.close()


def asked(policy: Policy, site_name: str, question: Callable[..., R], result: Any) -> R | None:
    """What the user's function says of a result; None where it fails, which must not cost the caller the result."""
    try:
        return question(result)
    except Exception as exc:
        events.emit(
            "warning", site_name, problem=f"{policy.kind} cannot read a result", error=type(exc).__name__
        )
        return None


def amount(policy: str, label: str, value: float) -> float:
    """A finite amount of at least 0. Raises `ConfigurationError`."""
    if not 0 <= value < math.inf:
        raise ConfigurationError(f"{policy}: {label}={value!r} must be a number of at least 0")
    return value


def checked(policy: str, label: str, value: Any, allowed: str, *, ok: bool) -> None:
    """Raise `ConfigurationError` for an argument that is given and not allowed."""
    if value is not None and not ok:
        raise ConfigurationError(f"{policy}: {label}={value!r} must be {allowed}")


def now() -> float:
    """The time of the running loop, or of the thread where there is none."""
    loop = asyncio._get_running_loop()
    return time.monotonic() if loop is None else loop.time()


def patience(max_wait: float) -> float:
    """Seconds that a wait may take here: ``max_wait``, and less than what is left of the caller's deadline."""
    deadline = current_deadline()
    if deadline is None or deadline.when == math.inf:
        return max_wait
    return min(max_wait, math.nextafter(max(0.0, deadline.when - now()), 0.0))
