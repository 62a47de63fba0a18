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
import contextvars
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, cast

from . import _headers, events
from ._checks import checked
from ._machines.timers import Task
from .criticality import CRITICALITY, Criticality, current_criticality
from .deadline import Deadline, current_deadline, remaining
from .errors import DeadlineExceeded, TimedOut

__all__ = [
    "Incoming",
    "carried",
    "current_attempt",
    "current_hedge",
    "in_thread",
    "incoming",
    "outgoing_headers",
]

P = ParamSpec("P")
T = TypeVar("T")

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
            _count(_repeated, self._service)
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
        deadline: Deadline = _Uncut(time.monotonic() + seconds)
    else:
        deadline = Deadline(task, task.get_loop().time() + seconds, None, current_deadline())
        deadline.start(task.get_loop())
    deadline.seconds = seconds
    deadline.open()
    return deadline


class _NoTask:
    """Stands where a deadline has its task, in threads: nothing can be cut there."""

    def cancelling(self) -> int:
        return 0

    def get_loop(self) -> None:
        return None


class _Uncut(Deadline):
    """A deadline in a thread: a time on the clock of ``time.monotonic``, known to `remaining`, with no timer. It has no
    parent, since that may be told on another clock: ``end`` is the earliest of all.
    """

    __slots__ = ()

    def __init__(self, end: float) -> None:
        super().__init__(cast(Task, _NoTask()), end)


def carried(fn: Callable[P, T]) -> Callable[P, T]:
    """``fn`` with the context of now, for threads: ``pool.submit(carried(fn), ...)``.

    The deadline is carried as a fixed point in time: `remaining` in the thread goes down to 0 and stays there, also
    after the call that it came from was cut. Raises `DeadlineExceeded` instead of beginning where the time was up when
    the thread came to it.
    """
    context = contextvars.copy_context()
    left = remaining()
    end = None if left is None else time.monotonic() + left

    @functools.wraps(fn)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(_under, end, functools.partial(fn, *args, **kwargs))

    return run


def _under(end: float | None, fn: Callable[[], T]) -> T:
    if end is None:
        return fn()
    if end <= time.monotonic():
        raise expired("thread")
    deadline = _Uncut(end)
    deadline.open()
    try:
        return fn()
    finally:
        deadline.close()


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """``asyncio.to_thread`` for a `carried` function: what has waited for a thread beyond its deadline is not begun.

    Raises what ``fn`` raises, or `DeadlineExceeded`. A thread cannot be cut: ``fn`` asks `remaining` now and then.
    """
    call = functools.partial(carried(fn), *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(None, call)


_expired: Final[dict[str, int]] = {}
_repeated: Final[dict[str, int]] = {}
_counting: Final = threading.Lock()


def expired(service: str) -> DeadlineExceeded:
    """Count work that is dropped because its time is up, and give what to raise."""
    _count(_expired, service)
    events.emit("rejected", service, policy=DeadlineExceeded.policy)
    return DeadlineExceeded(service)


def _count(counts: dict[str, int], service: str) -> None:
    with _counting:
        counts[service] = counts.get(service, 0) + 1


def counted() -> Iterator[tuple[str, str, int]]:
    """Every count as (metric, service, value)."""
    for metric, counts in (("deadline_expired_total", _expired), ("incoming_repeated_total", _repeated)):
        for service, count in list(counts.items()):
            yield metric, service, count


def forget_counts() -> None:
    """Count from zero (for tests)."""
    _expired.clear()
    _repeated.clear()
