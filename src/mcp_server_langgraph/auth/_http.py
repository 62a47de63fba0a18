"""The HTTP client of the auth services: one attempt, short timeouts, and replies that are JSON or an outage."""

import functools
import importlib
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from typing import Any, Final

import httpx2

from mcp_server_langgraph.resilience.integrations.httpx2 import send_deadline
from mcp_server_langgraph.settings.bearer import checked_bearer

__all__ = ["UnusableReply", "json_reply", "new_client", "without_token"]

# Bounds a step of an attempt when the pipeline's attempt timeout does not (the resilience switch is off).
_STEP_TIMEOUT: Final = 0.45

# Bytes. A hundred times what a discovery document or a key set takes; more is a mistake, or an attack on our memory.
_LONGEST_REPLY: Final = 1_048_576


class UnusableReply(OSError):
    """The peer answered 200 with something else than it should: no answer, as good as none. A kind of outage."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that is not read any further once it is too long."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = _LONGEST_REPLY
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise UnusableReply("the reply is too long")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Bearer(httpx2.Auth):
    """Sends a token with every request. Not a header of the client: a password in its URL would replace that."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {checked_bearer(token)}"

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        request.headers["authorization"] = self._header
        yield request


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all clients: loading the certificates takes 0.1 s."""
    return httpx2.create_ssl_context()


def new_client(base_url: str, token: str | None = None) -> httpx2.AsyncClient:
    """A client that does not retry, does not follow redirects, and leaves limits to the pipeline's bulkhead.

    `token`: what every request of it bears. Raises ValueError for one that cannot be sent.
    """
    with suppress(ImportError):
        # Else the first request imports it, which takes a good part of its 0.4 s on a busy machine.
        importlib.import_module("anyio._backends._asyncio")
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
    return httpx2.AsyncClient(
        base_url=base_url,
        auth=None if token is None else _Bearer(token),
        headers={"accept-encoding": "identity"},
        verify=_tls(),
        timeout=_STEP_TIMEOUT,
        limits=limits,
        event_hooks={"request": [send_deadline], "response": [_bound]},
    )


async def _bound(response: httpx2.Response) -> None:
    """Bound the body before any of it is read. What was compressed unasked could be of any length once unpacked."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnusableReply("the reply is compressed, which nobody asked for")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


def without_token(text: str, request: httpx2.Request) -> str:
    """A text of the reply as it may be told: some that refuse a request repeat what it bore."""
    token = request.headers.get("authorization", "").rpartition(" ")[2]
    return text.replace(token, "***") if token else text


def json_reply(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object in a reply. Raises httpx2.HTTPStatusError, UnusableReply."""
    response.raise_for_status()
    try:
        reply = response.json()
    except (ValueError, RecursionError) as error:
        raise UnusableReply("the reply is not JSON") from error
    if not isinstance(reply, dict):
        raise UnusableReply("the reply is not a JSON object")
    return reply
