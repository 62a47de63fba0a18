"""Transports for httpx: requests go through a breaker and a bulkhead for each host, until their bodies have ended.

    client = httpx.AsyncClient(transport=AsyncResilientTransport())

Whatever takes such a client is guarded with it. An answer is given back whatever its
status. Our own errors (`CircuitOpen`, `BulkheadFull`, `TimedOut`, ...) are at the same time ``httpx.TransportError``,
those of time ``httpx.TimeoutException``. Under asyncio only, not under trio.
"""

from __future__ import annotations

import httpx

from ._http.fitting import Fitting
from ._http.httpx_family import AsyncBody, AsyncTransport, Family, SyncBody, SyncTransport, send_deadline
from .hosts import Hosts

__all__ = ["AsyncResilientTransport", "Hosts", "ResilientTransport", "send_deadline"]


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """One that httpx takes for its own."""


class _Body(SyncBody, httpx.SyncByteStream):
    """One that httpx takes for its own."""


_FAMILY = Family(
    Fitting(httpx.TransportError, httpx.TimeoutException),
    httpx.ByteStream,
    httpx.AsyncHTTPTransport,
    httpx.HTTPTransport,
    _AsyncBody,
    _Body,
)


class AsyncResilientTransport(AsyncTransport[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    """Passes requests on to ``inner`` (default: a new ``httpx.AsyncHTTPTransport``) through the guards of ``hosts``
    (default: a new `Hosts`). Closes ``inner`` with itself.
    """

    family = _FAMILY


class ResilientTransport(SyncTransport[httpx.BaseTransport], httpx.BaseTransport):
    """The same for ``httpx.Client``, around an ``httpx.HTTPTransport``. A wait for a place or for another attempt
    blocks the thread.
    """

    family = _FAMILY
