"""What a call carries with it beside its arguments: its deadline, how much it matters, the number of the attempt.

Inside one process contextvars carry them, into child tasks too. This module takes them further:

- to another process, in headers: `outgoing_headers` on one side, ``with incoming(headers)`` on the other;
- into threads: ``asyncio.to_thread`` takes the context along, other executors do not (`carried`), and `in_thread`
  begins nothing whose time is up.

It protects against work that nobody waits for any more: a chain of services in which each has its own timeout goes on
working for callers that are gone (B. Beyer et al., "Site Reliability Engineering", ch. 22, "Deadline propagation").
What comes in too late is refused at once, and counted.

The deadline travels as the time that is left, as gRPC and Envoy send it: clocks of machines differ. Our own headers
are ``x-request-timeout-ms``, ``x-request-criticality`` and ``x-request-attempt``; on the way in ``grpc-timeout``,
``x-envoy-expected-rq-timeout-ms`` and ``x-envoy-attempt-count`` are understood too, and the shortest time wins. A
header that cannot be read is ignored: what one caller sends must not break a server.

Errors: `DeadlineExceeded` where nothing was left on arrival; `TimedOut` (``clock`` "inherited") where the caller's time
ran out in the block. Metrics: ``deadline_expired_total``, ``incoming_repeated_total``.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from . import _headers, events
from ._checks import checked
from ._late import expired, repeated
from ._threads import Uncut, carried, in_thread
from .criticality import CRITICALITY, Criticality, current_criticality
from .deadline import Deadline, current_deadline, remaining
from .errors import TimedOut

__all__ = [
    "Incoming",
    "carried",
    "current_attempt",
    "current_hedge",
    "in_thread",
    "incoming",
    "outgoing_headers",
]

# Set by a retry from the second attempt on, and only for as long as that attempt runs.
ATTEMPT: Final[ContextVar[int]] = ContextVar("resilience_attempt", default=1)

# Set in the context of a hedge's own task.
HEDGE: Final[ContextVar[int]] = ContextVar("resilience_hedge", default=0)


def current_attempt() -> int:
    """The number of the attempt that the code running now belongs to; 1 where nothing was retried."""
    return ATTEMPT.get()


def current_hedge() -> int:
    """The number of the hedge that the code running now belongs to; 0 in a first attempt. For who asks elsewhere the
    second time: another replica, another model.
    """
    return HEDGE.get()


def outgoing_headers() -> dict[str, str]:
    """The headers that tell a callee what the code running now carries: what is left of its deadline in milliseconds
    (rounded down; none where there is no deadline), its criticality, the number of the attempt.
    """
    headers = {
        _headers.CRITICALITY: current_criticality().name.lower(),
        _headers.ATTEMPT: str(current_attempt()),
    }
    left = remaining()
    if left is not None:
        headers[_headers.DEADLINE] = str(int(left * 1000))
    return headers


@dataclass(frozen=True, slots=True)
class Incoming:
    """What came in: ``seconds`` left (None: no deadline), the ``criticality`` after our own bound, and the caller's
    ``attempt`` (1: its first). The attempt is the caller's: `current_attempt` in the block counts our own.
    """

    seconds: float | None
    criticality: Criticality
    attempt: int


class incoming:  # noqa: N801 (a verb-like context manager, as asyncio.timeout is)
    """``with incoming(headers) as carried: ...``: work under what a caller sent. ``async with`` does the same.

    ``headers``: a mapping, or pairs of text or bytes as ASGI has them; names in any case. The deadline never exceeds
    one already inherited. ``service``: what errors and metrics call us. ``max_criticality``: a caller cannot raise its
    own beyond that (default ``CRITICAL``). ``margin``: seconds kept back for the way to the caller (>= 0).
    ``minimum``: with fewer seconds left it is not worth beginning (>= 0). In a thread without a loop the deadline cuts
    nothing, but `remaining` and `outgoing_headers` know it.

    Raises `DeadlineExceeded` on entry where the time is up, `TimedOut` at the end of the block where it ran out in it,
    `ConfigurationError` for values out of range, RuntimeError where it is entered twice.
    """

    def __init__(
        self,
        headers: _headers.Headers,
        *,
        service: str = "server",
        max_criticality: Criticality = Criticality.CRITICAL,
        margin: float = 0.0,
        minimum: float = 0.0,
    ) -> None:
        for label, value in (("margin", margin), ("minimum", minimum)):
            checked("incoming", label, value, "at least 0 seconds", ok=0 <= value < math.inf)
        self._sent = _headers.Sent(headers)
        self._service = service
        self._level = min(_level(self._sent), Criticality(max_criticality))
        self._margin = margin
        self._minimum = minimum
        self._deadline: Deadline | None = None
        self._resets: list[tuple[ContextVar[Any], Token[Any]]] = []
        self._entered = False

    def __enter__(self) -> Incoming:
        if self._entered:
            raise RuntimeError("incoming() can be entered only once")
        self._entered = True
        seconds = self._seconds()
        if seconds is not None:
            if seconds <= self._minimum:
                raise expired(self._service)
            self._deadline = _opened(seconds)
        self._resets = [
            (CRITICALITY, CRITICALITY.set(self._level)),
            (ATTEMPT, ATTEMPT.set(1)),
        ]
        if self._sent.attempt > 1:
            repeated(self._service)
        return Incoming(seconds, self._level, self._sent.attempt)

    def _seconds(self) -> float | None:
        """What is left: of what was sent, less the margin, or of what is inherited."""
        sent = None if self._sent.seconds is None else self._sent.seconds - self._margin
        known = [seconds for seconds in (sent, remaining()) if seconds is not None]
        return min(known, default=None)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._resets:
            variable, reset = self._resets.pop()
            try:
                variable.reset(reset)
            except ValueError:
                continue  # an abandoned generator is closed in a foreign context: there is nothing to set back
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.close() and isinstance(exc, asyncio.CancelledError):
            raise TimedOut(self._service, deadline.seconds, "inherited") from exc

    async def __aenter__(self) -> Incoming:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


_LEVELS: Final = {level.name.lower(): level for level in Criticality}


def _level(sent: _headers.Sent) -> Criticality:
    if sent.criticality is not None and sent.criticality not in _LEVELS:
        sent.ignored.append(_headers.CRITICALITY)
    if sent.ignored:
        events.logger.debug("ignored headers that cannot be read: %s", ", ".join(sent.ignored))
    return _LEVELS.get(sent.criticality or "", current_criticality())


def _opened(seconds: float) -> Deadline:
    """A deadline in the running task, or where there is none, one that cuts nothing."""
    loop = asyncio._get_running_loop()
    task = None if loop is None else asyncio.current_task()
    if task is None:
        deadline: Deadline = Uncut(time.monotonic() + seconds)
    else:
        deadline = Deadline(task, task.get_loop().time() + seconds, None, current_deadline())
        deadline.start(task.get_loop())
    deadline.seconds = seconds
    deadline.open()
    return deadline
