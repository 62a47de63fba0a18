"""One request and its answer, through the guards of `Hosts`, whatever library sends it.

An answer of 400 and above is an exception inside, so that breaker and retry judge it as they judge all others, and an
answer again outside. Its guards are left once it is there: an error's page is small, and is read at once. The guards of
other answers are held until the body has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from ... import stacking
from ..._held import Held, Holder, Ways
from ..._http_facts import headers_of
from ...errors import ResilienceError, RetriesExhausted
from ..hosts import Hosts
from .fitting import Fitting

__all__ = ["Body", "Exchange", "Library", "is_small"]

Q = TypeVar("Q")
Q_contra = TypeVar("Q_contra", contravariant=True)
A = TypeVar("A")

# Bytes of an error's page, at most, that are read before it is handed over.
_SMALL: Final = 64 * 1024


class Library(Protocol[Q_contra, A]):
    """What a library has to do for it. Of these only ``send``, ``keep`` and ``drop`` wait."""

    fitting: Fitting

    async def send(self, request: Q_contra) -> A:
        """Send it, and give the answer as soon as its head has come."""
        ...

    def status(self, answer: A) -> int:
        """Its status."""
        ...

    async def keep(self, answer: A) -> None:
        """Read the page of an error, where it is small."""
        ...

    async def drop(self, answer: A) -> None:
        """Close an answer that nobody will get."""
        ...

    def told_enough(self, request: Q_contra, answer: A) -> None:
        """Say on the answer, to who understands, that it was asked for often enough."""
        ...

    def hand_over(self, answer: A, body: Body) -> A:
        """The answer, whose body tells ``body`` how it ends."""
        ...


class ErrorStatus(Exception):
    """The answer has a status of 400 or more. The classifier reads its ``response``."""

    def __init__(self, response: Any) -> None:
        super().__init__(
            f"status {getattr(response, 'status_code', None) or getattr(response, 'status', None)}"
        )
        self.response = response


class Body:
    """How a body ends. ``idle``: seconds at most between two pieces; None: any number."""

    def __init__(self, hosts: Hosts, held: Held, fitting: Fitting, headers: Mapping[str, str]) -> None:
        self.name = hosts.name
        self.idle = hosts.idle_timeout
        self._held = held
        self._fitting = fitting
        self._missing = _length_of(headers)
        self._events = headers.get("content-type", "").lower().startswith("text/event-stream")
        self._came = False

    def came(self, size: int) -> None:
        """Another piece is here."""
        self._came = True
        if self._missing is not None:
            self._missing -= size

    def ended(self) -> None:
        """All of it is here."""
        self._held.succeeded()

    def broke(self, exc: BaseException) -> BaseException:
        """It broke off; gives what to raise."""
        raised = self._held.failed(exc)
        return self._fitting.fit(raised) if isinstance(raised, ResilienceError) else raised

    def forgotten(self, error: Callable[[], BaseException | None]) -> None:
        """Ask ``error``, should nobody close it, whether it had broken off."""
        self._held.if_forgotten = lambda: error() or GeneratorExit()

    def closed(self, *, cancelled: bool = False) -> None:
        """The caller wants no more. That is neutral, unless all was there, as it is where the caller of a stream of
        events has got some and stops: what is in the events says where they end, and clients do not read on.
        """
        whole = self._missing == 0 or (self._events and self._came)
        if whole and not cancelled:
            self._held.succeeded()
        else:
            self._held.abandoned()


class Exchange(Generic[Q, A]):
    """Requests of one library through the guards of ``hosts``."""

    def __init__(self, hosts: Hosts, library: Library[Q, A]) -> None:
        self._hosts = hosts
        self._library = library

    async def answer(self, ways: Ways, request: Q, holder: Holder) -> A:
        """The answer, whatever its status. Raises the library's errors, and ours as the library's."""
        sent = _Sent(self._library)
        try:
            answer, held = await holder.begin(ways, sent.attempt, request)
        except Exception as exc:
            return await self._instead(exc, sent, request)
        except BaseException:
            await sent.drop()
            raise
        body = Body(self._hosts, held, self._library.fitting, headers_of(answer) or {})
        return self._library.hand_over(answer, body)

    async def _instead(self, exc: Exception, sent: _Sent[Q, A], request: Q) -> A:
        """The last answer, or the library's error."""
        last = exc.__cause__ if isinstance(exc, RetriesExhausted) and exc.__cause__ else exc
        answer = sent.last
        if answer is not None and isinstance(last, ErrorStatus):
            if stacking.copy_mark(exc, answer):
                self._library.told_enough(request, answer)
            return answer
        await sent.drop()
        if isinstance(last, ResilienceError):
            raise self._library.fitting.fit(last) from last
        raise last


class _Sent(Generic[Q, A]):
    """The attempts of one request. ``last``: the answer to the last one, where it was an error."""

    def __init__(self, library: Library[Q, A]) -> None:
        self._library = library
        self.last: A | None = None

    async def attempt(self, request: Q) -> A:
        await self.drop()
        library = self._library
        answer = await library.send(request)
        if library.status(answer) < 400:
            return answer
        self.last = answer
        await library.keep(answer)
        raise ErrorStatus(answer)

    async def drop(self) -> None:
        answer, self.last = self.last, None
        if answer is not None:
            await self._library.drop(answer)


def is_small(headers: Mapping[str, str]) -> bool:
    """Whether an error's page is surely small."""
    length = _length_of(headers)
    return length is not None and length <= _SMALL


def _length_of(headers: Mapping[str, str]) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if length.isdigit() else None
