"""What policies have in common that take something before a call and learn from its result what it really used.

They look at arguments and results, which a guard does not see: so they run in the general form. The items of a stream
are looked at one by one, as the last of them often tells what all of them used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

from . import events
from ._functions import END, Source
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync

__all__ = ["Metered", "asked"]

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
