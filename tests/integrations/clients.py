"""Every HTTP client that the layer guards, asked in one way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, NamedTuple

import aiohttp
import httpx
import httpx2

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Retry
from mcp_server_langgraph.resilience.integrations import aiohttp as for_aiohttp
from mcp_server_langgraph.resilience.integrations import httpx as for_httpx
from mcp_server_langgraph.resilience.integrations import httpx2 as for_httpx2
from mcp_server_langgraph.resilience.integrations.hosts import Hosts
from tests.support.http_server import HttpServer, Request, Response

__all__ = ["ASYNC", "CLIENTS", "Aiohttp", "Asked", "Client", "Httpx", "Httpx2", "SyncHttpx", "SyncHttpx2"]
__all__ += ["Upstream", "guarded", "hosts_of"]

PIECE = b"x" * 1000


class Upstream(HttpServer):
    """Answers 4000 bytes; ``last`` is the request that came last."""

    last: Request

    async def handle(self, request: Request) -> Response:
        self.last = request
        kind = "text/event-stream" if request.path == "/events" else "application/octet-stream"
        return Response(PIECE * 4, headers={"content-type": kind})


class Asked(NamedTuple):
    status: int
    body: bytes
    headers: Any
    answer: Any


def hosts_of(**options: Any) -> Hosts:
    """Guards whose breakers open at the second failure and whose retries are quick."""
    options.setdefault("breaker", lambda _: CircuitBreaker(fail_max=2))
    options.setdefault("bulkhead", lambda _: Bulkhead(1, max_queue=0))
    if options.pop("retried", False):
        options["retry"] = Retry(max_attempts=3, multiplier=0.01, jitter="none")
        options["breaker"] = lambda _: CircuitBreaker(fail_max=20)
    return Hosts(**options)


class Client:
    """One client. ``transport_error`` and ``timeout_error`` are its library's."""

    transport_error: ClassVar[type[Exception]]
    timeout_error: ClassVar[type[Exception]]
    cuts: ClassVar[bool] = True

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Asked:
        """The whole answer."""
        raise NotImplementedError

    def pieces(self, url: str) -> AsyncIterator[bytes]:
        """The pieces of the body, as they come; closed, it closes the answer."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections."""

    async def first_piece(self, url: str) -> None:
        """Read one piece and close."""
        async with aclosing(self.pieces(url)) as pieces:  # type: ignore[type-var]
            await anext(pieces)


def _one_connection(library: Any) -> dict[str, Any]:
    """Whoever does not give it back is found out. Reading certificates would take 0.1 s."""
    return {"verify": False, "limits": library.Limits(max_connections=1)}


class _Family(Client):
    library: ClassVar[Any]
    guards: ClassVar[Any]

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(hosts)
        inner = self.library.AsyncHTTPTransport(**_one_connection(self.library))
        transport = self.guards.AsyncResilientTransport(inner, hosts=hosts)
        self.client = self.library.AsyncClient(transport=transport, timeout=None)

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Asked:
        answer = await self.client.request(method, url, **options)
        return Asked(answer.status_code, answer.content, answer.headers, answer)

    async def pieces(self, url: str) -> AsyncIterator[bytes]:
        async with self.client.stream("GET", url) as answer:
            async for piece in answer.aiter_raw():
                yield piece

    async def aclose(self) -> None:
        await self.client.aclose()


class _SyncFamily(Client):
    """In a thread, as such clients are used beside a loop."""

    library: ClassVar[Any]
    guards: ClassVar[Any]
    cuts = False

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(hosts)
        inner = self.library.HTTPTransport(**_one_connection(self.library))
        transport = self.guards.ResilientTransport(inner, hosts=hosts)
        self.client = self.library.Client(transport=transport, timeout=None)

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Asked:
        answer = await asyncio.to_thread(self.client.request, method, url, **options)
        return Asked(answer.status_code, answer.content, answer.headers, answer)

    async def pieces(self, url: str) -> AsyncIterator[bytes]:
        def open_stream() -> Any:
            return self.client.send(self.client.build_request("GET", url), stream=True)

        answer = await asyncio.to_thread(open_stream)
        parts = answer.iter_raw()
        try:
            while (piece := await asyncio.to_thread(next, parts, None)) is not None:
                yield piece
        finally:
            answer.close()

    async def aclose(self) -> None:
        self.client.close()


class Httpx(_Family):
    library, guards = httpx, for_httpx
    transport_error, timeout_error = httpx.TransportError, httpx.TimeoutException


class SyncHttpx(_SyncFamily):
    library, guards = httpx, for_httpx
    transport_error, timeout_error = httpx.TransportError, httpx.TimeoutException


class Httpx2(_Family):
    library, guards = httpx2, for_httpx2
    transport_error, timeout_error = httpx2.TransportError, httpx2.TimeoutException


class SyncHttpx2(_SyncFamily):
    library, guards = httpx2, for_httpx2
    transport_error, timeout_error = httpx2.TransportError, httpx2.TimeoutException


class Aiohttp(Client):
    transport_error, timeout_error = aiohttp.ClientError, aiohttp.ServerTimeoutError

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(hosts)
        self.client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1),
            middlewares=[for_aiohttp.ResilientMiddleware(hosts)],
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def ask(self, url: str, method: str = "GET", **options: Any) -> Asked:
        if "content" in options:
            options["data"] = options.pop("content")
        async with self.client.request(method, url, **options) as answer:
            return Asked(answer.status, await answer.read(), answer.headers, answer)

    async def pieces(self, url: str) -> AsyncIterator[bytes]:
        async with self.client.get(url) as answer:
            async for piece in answer.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        await self.client.close()


ASYNC = (Httpx, Httpx2, Aiohttp)
CLIENTS = (Httpx, SyncHttpx, Httpx2, SyncHttpx2, Aiohttp)


@asynccontextmanager
async def guarded(kind: type[Client], **options: Any) -> AsyncIterator[Client]:
    """A client of that kind, closed in the end."""
    client = kind(hosts_of(**options))
    try:
        yield client
    finally:
        await client.aclose()
