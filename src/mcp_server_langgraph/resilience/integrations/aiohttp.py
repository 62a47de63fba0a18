"""A middleware for aiohttp: requests go through a breaker and a bulkhead for each host, until their bodies have ended.

    async with aiohttp.ClientSession(middlewares=[ResilientMiddleware()]) as session: ...

Needs aiohttp 3.12. An answer is given back whatever its status. Our own errors (`CircuitOpen`, `BulkheadFull`,
`TimedOut`, ...) are at the same time ``aiohttp.ClientConnectionError``, those of time ``aiohttp.ServerTimeoutError``.

A session asks once more by itself where an idempotent request meets a broken connection (``ClientOSError`` or
``ServerDisconnectedError``), for which a kept connection is the usual reason. After attempts of ours such an error
comes as a plain ``ClientConnectionError``, so that the session does not begin anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.payload import BytesPayload

from .. import stacking
from .._held import of_loop
from ._http.exchange import Body, Exchange, is_small
from ._http.fitting import Fitting
from .hosts import Hosts

__all__ = ["Hosts", "ResilientMiddleware"]

_FITTING: Final = Fitting(aiohttp.ClientConnectionError, aiohttp.ServerTimeoutError)


class ResilientMiddleware:
    """Sends requests through the guards of ``hosts`` (default: a new `Hosts`). May serve many sessions.

    It stands innermost: put it last into ``middlewares``.
    """

    def __init__(self, hosts: Hosts | None = None) -> None:
        self._hosts = hosts or Hosts()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        client = _Client(self._hosts, handler)
        exchange: Exchange[aiohttp.ClientRequest, aiohttp.ClientResponse] = Exchange(self._hosts, client)
        holder = self._hosts.holder_for(request, _is_replayable(request))
        request.response_class = _guarding(request.response_class)
        try:
            return await exchange.answer(of_loop(), request, holder)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
            if stacking.is_marked(exc):
                raise aiohttp.ClientConnectionError(*exc.args) from exc
            raise


class _Client:
    """What aiohttp does for an exchange. What is awaited is awaited in the caller's task, which its deadline cuts."""

    fitting = _FITTING

    def __init__(self, hosts: Hosts, handler: aiohttp.ClientHandlerType) -> None:
        self._hosts = hosts
        self._handler = handler

    async def send(self, request: aiohttp.ClientRequest) -> aiohttp.ClientResponse:
        self._hosts.stamp(request.headers, self._hosts.time_left())
        return await self._handler(request)

    def status(self, answer: aiohttp.ClientResponse) -> int:
        return answer.status

    async def keep(self, answer: aiohttp.ClientResponse) -> None:
        if is_small(answer.headers):
            await answer.content.wait_eof()

    async def drop(self, answer: aiohttp.ClientResponse) -> None:
        answer.close()

    def told_enough(self, request: aiohttp.ClientRequest, answer: aiohttp.ClientResponse) -> None:
        """Its headers cannot be changed; the mark of `stacking` says it."""

    def hand_over(self, answer: aiohttp.ClientResponse, body: Body) -> aiohttp.ClientResponse:
        assert isinstance(answer, _Told)
        answer.told = body
        answer.content.on_eof(body.ended)
        body.forgotten(answer.content.exception)
        protocol = None if answer.connection is None else answer.connection.protocol
        if body.idle is not None and protocol is not None and not answer.content.is_eof():
            protocol.read_timeout = min(body.idle, protocol.read_timeout or body.idle)
            protocol.start_timeout()
        return answer


if TYPE_CHECKING:
    _Response = aiohttp.ClientResponse
else:
    _Response = object


class _Told(_Response):
    """Of a response: tells how its body ended."""

    told: Body | None = None

    def close(self) -> None:
        self._tell()
        super().close()

    def release(self) -> Any:
        self._tell()
        return super().release()

    def raise_for_status(self) -> None:
        try:
            super().raise_for_status()
        except aiohttp.ClientResponseError as exc:  # which does not have the response
            stacking.copy_mark(self, exc)
            raise

    def _tell(self) -> None:
        body, self.told = self.told, None
        if body is None:
            return
        exc = self.content.exception()
        if exc is not None:
            body.broke(exc)
        else:
            body.came(self.content.total_bytes)
            body.closed(cancelled=_is_cancelled())


_guarding_classes: Final[dict[type[aiohttp.ClientResponse], type[aiohttp.ClientResponse]]] = {}


def _guarding(kind: type[aiohttp.ClientResponse]) -> type[aiohttp.ClientResponse]:
    if issubclass(kind, _Told):
        return kind
    found = _guarding_classes.get(kind)
    if found is None:
        found = _guarding_classes[kind] = type(kind.__name__, (_Told, kind), {})
    return found


def _is_replayable(request: aiohttp.ClientRequest) -> bool:
    return not request.body or isinstance(request.body, BytesPayload)


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # closed outside the loop
        return False
    return task is not None and task.cancelling() > 0
