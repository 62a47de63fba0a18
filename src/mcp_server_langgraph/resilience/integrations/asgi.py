"""The door of an ASGI application: which requests are let in, under which deadline, and what the others are told.

    app = ResilienceMiddleware(app, Pipeline("http", Shed(), AdaptiveLimit("aimd")))

It needs nothing but ASGI 3, so it stands before Starlette, FastAPI, Django or a bare function alike; outermost, so that
refusing is cheap: no body is read, and nothing of the application runs.

- The caller's deadline and criticality (`propagation`) hold for all that the application calls through the layer, and
  the application is cut when the time is up. What comes too late is not begun.
- The pipeline decides who gets in: `Shed` by lateness, `Keyed` rate limits by caller, `Bulkhead` or `AdaptiveLimit` by
  how many are in at once. A place is held until the response has ended, a streamed one too. Answers of 5xx are told to
  the policies as failures, so that an adaptive limit learns from them, and 429 as neutral.
- The others are answered 429, 503 or 504, with Retry-After and problem details. So are those for whom a rejection or a
  timeout of the layer comes out of the application unhandled (`refused` is for frameworks that let none out).

Errors: whatever the application raises passes through, and so does what ends a response that has begun.
Sources: B. Beyer et al., "Site Reliability Engineering", ch. 21 and 22; RFC 6585 (429), RFC 9110 section 10.2.3
(Retry-After), RFC 9457 (problem details).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

from ..criticality import Criticality
from ..errors import ConfigurationError, Rejected, TimedOut
from ..pipeline import Pipeline
from ..propagation import incoming
from ._http.refusals import Refusal, refusal_of

__all__ = ["ResilienceMiddleware", "client_address", "queue_delay", "refused"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A request is read once and answered once: nothing may begin it anew, or answer in its stead.
_IMPOSSIBLE: Final = frozenset({"cache", "fallback", "hedge", "retry"})
_LONGEST_DELAY: Final = 60.0
_NEVER: Final = 1e18  # later than any time in microseconds


class ResilienceMiddleware:
    """``app`` behind ``pipeline``.

    The policies' key functions are called with the request's ``scope``, ``receive`` and ``send``: see `client_address`.
    ``exempt``: paths that are let through untouched, such as those of health checks. ``max_criticality``: a caller
    cannot raise its own beyond that. ``margin``: seconds kept back for the way to the caller (>= 0). ``minimum``: with
    fewer seconds left a request is not begun (>= 0). ``queue_delay_header``: where a proxy in front says when it took
    the request (``x-request-start``, say), for `queue_delay`; None: nobody does. Only give it where the proxy
    overwrites what callers send, or a caller can make the process shed the others' requests.

    What is no HTTP request (``websocket``, ``lifespan``) passes through untouched. Raises `ConfigurationError` for a
    pipeline with a policy that would repeat or answer a request, and for values out of range.
    """

    def __init__(
        self,
        app: App,
        pipeline: Pipeline,
        *,
        exempt: Iterable[str] = (),
        max_criticality: Criticality = Criticality.CRITICAL,
        margin: float = 0.0,
        minimum: float = 0.0,
        queue_delay_header: str | None = None,
    ) -> None:
        wrong = sorted({policy.kind for policy in pipeline.policies} & _IMPOSSIBLE)
        if wrong:
            raise ConfigurationError(
                f"ResilienceMiddleware: pipeline {pipeline.name!r} has {', '.join(wrong)}, and a request cannot be "
                "begun twice or answered by a policy; put that around what the application calls"
            )
        self._under = functools.partial(
            incoming,
            service=pipeline.name,
            max_criticality=max_criticality,
            margin=margin,
            minimum=minimum,
        )
        self._under([])  # refuses values out of range now, not later
        self._app = app
        self._pipeline = pipeline
        self._exempt = frozenset(exempt)
        self._began_at = None if queue_delay_header is None else queue_delay_header.lower().encode("latin-1")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            return await self._app(scope, receive, send)
        response = _Response(send)
        if self._began_at is not None:
            _waited.set(_delay_of(scope["headers"], self._began_at, time.time()))
        try:
            async with self._under(scope["headers"]):
                await self._pipeline.call(self._answer, scope, receive, response)
        except _BadAnswer:
            pass
        except (Rejected, TimedOut) as error:
            if response.status:
                raise
            await _send(refusal_of(error, self._pipeline.name), send)
        return None

    async def _answer(self, scope: Scope, receive: Receive, response: _Response) -> None:
        await self._app(scope, receive, response)
        if response.status >= 500 or response.status == 429:
            raise _BadAnswer(response.status)


class _Response:
    """Passes the application's response on, and remembers its status: 0 before it has begun."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _BadAnswer(Exception):
    """The application has answered that it could not: what the policies are told. It never leaves the middleware."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


async def _send(refusal: Refusal, send: Send) -> None:
    status, headers, body = refusal
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refused(request: Any, error: Any) -> App:
    """An exception handler for Starlette and FastAPI, which otherwise answer 500 before an error comes out to the
    middleware: ``app.add_exception_handler(Rejected, refused)``, and the same for `TimedOut`.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(refusal_of(error, ""), send)

    return answer


def client_address(scope: Scope, receive: Receive, send: Send) -> str:
    """A key for `Keyed`: the address that the request came from ("" where the server does not know it, as with sockets
    of Unix). Behind a proxy that is the proxy's, unless the server was told to trust its headers.
    """
    client = scope.get("client")
    return client[0] if client else ""


_waited: Final[ContextVar[float | None]] = ContextVar("resilience_queue_delay", default=None)


def queue_delay() -> float | None:
    """How many seconds the request waited between the proxy in front and the application; None where nobody says so.

    For ``Shed(queue_delay=queue_delay)``, with ``queue_delay_header`` set.
    """
    return _waited.get()


def _delay_of(headers: Iterable[tuple[bytes, bytes]], name: bytes, wall_now: float) -> float | None:
    """Since when a request waits: seconds, milliseconds or microseconds since 1970 (nginx, Heroku, Apache), after
    "t=" or not. What cannot be read is ignored.
    """
    for each, value in headers:
        if each == name:
            return _seconds_since(value.removeprefix(b"t="), wall_now)
    return None


def _seconds_since(text: bytes, wall_now: float) -> float | None:
    try:
        began = float(text)
    except ValueError:
        return None
    if not 0 < began < _NEVER:
        return None
    while began > 1e11:
        began /= 1000
    return min(max(wall_now - began, 0.0), _LONGEST_DELAY)
