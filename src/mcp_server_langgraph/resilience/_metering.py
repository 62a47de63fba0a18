"""What policies have in common that take something before a call and learn from its result what it really used.

They look at arguments and results, which a guard does not see: so they run in the general form. The items of a stream
are looked at one by one, as the last of them often tells what all of them used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from . import events
from ._source import END, Source
from .errors import Rejected
from .policy import Call, Policy, Proceed, ProceedStream, ProceedSync

__all__ = ["Entry", "Held", "Metered", "Reserving", "asked"]

E = TypeVar("E")
R = TypeVar("R")
U = TypeVar("U")


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


class Held(Generic[U]):
    """Something taken for work whose real use, a ``U``, is known later."""

    __slots__ = ()

    def settle(self, used: U, /) -> None:
        """It really used that."""
        raise NotImplementedError

    def keep(self) -> None:
        """It used what was taken, as far as anybody knows."""
        raise NotImplementedError

    def cancel(self) -> None:
        """It used nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(exc, Rejected):
            self.cancel()
        self.keep()

    def __del__(self) -> None:
        self.keep()


H = TypeVar("H", bound="Held[Any]")


class Entry(Generic[H, U]):
    """What a call holds, and what it is known to have used."""

    __slots__ = ("held", "used")

    def __init__(self, held: H) -> None:
        self.held = held
        self.used: U | None = None


class Reserving(Metered[Entry[H, U]], Generic[H, U]):
    """A policy at a site whose calls hold something."""

    def ended(self, entry: Entry[H, U]) -> None:
        if entry.used is not None:
            entry.held.settle(entry.used)
        entry.held.keep()

    def failed(self, entry: Entry[H, U], exc: BaseException) -> None:
        if isinstance(exc, Rejected):
            entry.held.cancel()
        self.ended(entry)


def asked(policy: Policy, site_name: str, question: Callable[..., R], result: Any) -> R | None:
    """What the user's function says of a result; None where it fails, which must not cost the caller the result."""
    try:
        return question(result)
    except Exception as exc:
        events.emit(
            "warning", site_name, problem=f"{policy.kind} cannot read a result", error=type(exc).__name__
        )
        return None
