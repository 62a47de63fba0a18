"""What httpx and httpx2 have in common: transports that pass requests on through the guards of `Hosts`.

The library's own timeouts are capped for each attempt by what is left of the deadline, in ``extensions["timeout"]``
(seconds for connect, read, write and pool). Once the head of the answer is there, ``read`` bounds the pieces of the
body: the library looks it up when it begins with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from ..._held import THREAD, Holder, finish, of_loop
from ..._time_block import timeout
from ...deadline import remaining
from ...errors import TimedOut
from ...propagation import outgoing_headers
from ..hosts import CLIENTS_COUNT, Hosts
from .exchange import Body, Exchange, is_small
from .fitting import Fitting

__all__ = ["AsyncBody", "AsyncTransport", "Family", "SyncBody", "SyncTransport", "send_deadline"]

T = TypeVar("T")

_CLOCKS: Final = ("connect", "read", "write", "pool")
# A request that is made from another, after a redirect, takes the extensions along: these are the client's own.
_OWN: Final = "resilience.timeout"


class Family(NamedTuple):
    """The classes of one library."""

    fitting: Fitting
    byte_stream: type[Any]
    async_transport: type[Any]
    transport: type[Any]
    async_body: type[AsyncBody]
    body: type[SyncBody]


def _shortest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


async def send_deadline(request: Any) -> None:
    """An event hook for clients that are guarded elsewhere: whoever looks at these headers need not work for who is
    gone. What they are: `propagation.outgoing_headers`.
    """
    request.headers.update(outgoing_headers())


class _Client:
    """What sending is for both kinds of transport."""

    def __init__(self, family: Family, hosts: Hosts, inner: Any) -> None:
        self.family = family
        self.fitting = family.fitting
        self.hosts = hosts
        self.inner = inner

    def prepare(self, request: Any) -> None:
        """Tell the host what is left, and cap the client's timeouts."""
        left = self.hosts.time_left()
        self.hosts.stamp(request.headers, left)
        own: dict[str, float | None] = request.extensions.get(_OWN, request.extensions.get("timeout", {}))
        capped = {clock: _shortest(own.get(clock), left) for clock in _CLOCKS}
        request.extensions = {**request.extensions, _OWN: own, "timeout": capped}

    def head_came(self, request: Any, idle: float | None) -> None:
        """From here on the clocks are those of the body."""
        own: dict[str, float | None] = request.extensions[_OWN]
        request.extensions["timeout"]["read"] = _shortest(own.get("read"), idle, remaining())

    def status(self, answer: Any) -> int:
        status: int = answer.status_code
        return status

    def told_enough(self, request: Any, answer: Any) -> None:
        """As the clients of OpenAI and Anthropic understand it, if it is one of theirs."""
        if CLIENTS_COUNT in request.headers:
            answer.headers["x-should-retry"] = "false"

    def holder_for(self, request: Any) -> Holder:
        return self.hosts.holder_for(request, isinstance(request.stream, self.family.byte_stream))


class _AsyncClient(_Client):
    async def send(self, request: Any) -> Any:
        self.prepare(request)
        answer = await self.inner.handle_async_request(request)
        self.head_came(request, None)
        return answer

    async def keep(self, answer: Any) -> None:
        if not answer.is_closed and is_small(answer.headers):
            page = b"".join([part async for part in answer.stream])
            await answer.stream.aclose()
            answer.stream = self.family.byte_stream(page)

    async def drop(self, answer: Any) -> None:
        await answer.stream.aclose()

    def hand_over(self, answer: Any, body: Body) -> Any:
        if answer.is_closed:  # it never was on a wire
            body.ended()
        else:
            answer.stream = self.family.async_body(answer.stream, body)
        return answer


class _SyncClient(_Client):
    async def send(self, request: Any) -> Any:
        self.prepare(request)
        answer = self.inner.handle_request(request)
        self.head_came(request, self.hosts.idle_timeout)
        return answer

    async def keep(self, answer: Any) -> None:
        if not answer.is_closed and is_small(answer.headers):
            page = b"".join(answer.stream)
            answer.stream.close()
            answer.stream = self.family.byte_stream(page)

    async def drop(self, answer: Any) -> None:
        answer.stream.close()

    def hand_over(self, answer: Any, body: Body) -> Any:
        if answer.is_closed:
            body.ended()
        else:
            answer.stream = self.family.body(answer.stream, body)
        return answer


class AsyncTransport(Generic[T]):
    """Passes requests on to ``inner`` (default: the library's own transport) through the guards of ``hosts``."""

    family: ClassVar[Family]

    def __init__(self, inner: T | None = None, *, hosts: Hosts | None = None) -> None:
        self._inner: Any = self.family.async_transport() if inner is None else inner
        self._client = _AsyncClient(self.family, hosts or Hosts(), self._inner)
        self._exchange: Exchange[Any, Any] = Exchange(self._client.hosts, self._client)

    async def handle_async_request(self, request: Any) -> Any:
        """The answer of the host, whatever its status."""
        return await self._exchange.answer(of_loop(), request, self._client.holder_for(request))

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class SyncTransport(Generic[T]):
    """The same for synchronous clients."""

    family: ClassVar[Family]

    def __init__(self, inner: T | None = None, *, hosts: Hosts | None = None) -> None:
        self._inner: Any = self.family.transport() if inner is None else inner
        self._client = _SyncClient(self.family, hosts or Hosts(), self._inner)
        self._exchange: Exchange[Any, Any] = Exchange(self._client.hosts, self._client)

    def handle_request(self, request: Any) -> Any:
        """The answer of the host, whatever its status."""
        return finish(self._exchange.answer(THREAD, request, self._client.holder_for(request)))

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


class AsyncBody:
    """The pieces of a body, each awaited for so long at most."""

    def __init__(self, inner: Any, body: Body) -> None:
        self._inner = inner
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._inner)
        while True:
            try:
                part = await self._next(parts)
            except StopAsyncIteration:
                break
            except BaseException as exc:
                raised = self._body.broke(exc)
                if raised is exc:
                    raise
                raise raised from exc
            self._body.came(len(part))
            yield part
        self._body.ended()

    async def _next(self, parts: AsyncIterator[bytes]) -> bytes:
        if self._body.idle is None:
            return await anext(parts)
        async with timeout(self._body.idle, name=self._body.name, clock="idle"):
            return await anext(parts)

    async def aclose(self) -> None:
        """End it, and leave the guards even where closing fails."""
        task = asyncio.current_task()
        self._body.closed(cancelled=task is not None and task.cancelling() > 0)
        await self._inner.aclose()


class SyncBody:
    """The same for synchronous clients, whose ``read`` timeout is the idle timeout."""

    def __init__(self, inner: Any, body: Body) -> None:
        self._inner = inner
        self._body = body
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._inner)
        while True:
            try:
                self._refuse_late()
                part = next(parts)
            except StopIteration:
                break
            except BaseException as exc:
                raised = self._body.broke(exc)
                if raised is exc:
                    raise
                raise raised from exc
            self._body.came(len(part))
            yield part
        self._body.ended()

    def _refuse_late(self) -> None:
        """Nothing can cut a thread, but the next piece need not be waited for."""
        if remaining() == 0:
            raise TimedOut(self._body.name, time.monotonic() - self._began, "inherited")

    def close(self) -> None:
        """End it, and leave the guards even where closing fails."""
        self._body.closed()
        self._inner.close()
