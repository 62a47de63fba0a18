"""Transports for httpx2: requests go through a breaker and a bulkhead for each host, until their bodies have ended.

    client = httpx2.AsyncClient(transport=AsyncResilientTransport())

Whatever takes such a client is guarded with it. An answer is given back whatever its
status. Our own errors (`CircuitOpen`, `BulkheadFull`, `TimedOut`, ...) are at the same time ``httpx2.TransportError``,
those of time ``httpx2.TimeoutException``. Under asyncio only, not under trio.
"""

from __future__ import annotations

import httpx2

from ._http.fitting import Fitting
from ._http.httpx_family import AsyncBody, AsyncTransport, Family, SyncBody, SyncTransport, send_deadline
from .hosts import Hosts

__all__ = ["AsyncResilientTransport", "Hosts", "ResilientTransport", "send_deadline"]


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """One that httpx2 takes for its own."""


class _Body(SyncBody, httpx2.SyncByteStream):
    """One that httpx2 takes for its own."""


_FAMILY = Family(
    Fitting(httpx2.TransportError, httpx2.TimeoutException),
    httpx2.ByteStream,
    httpx2.AsyncHTTPTransport,
    httpx2.HTTPTransport,
    _AsyncBody,
    _Body,
)


class AsyncResilientTransport(AsyncTransport[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport):
    """Passes requests on to ``inner`` (default: a new ``httpx2.AsyncHTTPTransport``) through the guards of ``hosts``
    (default: a new `Hosts`). Closes ``inner`` with itself.
    """

    family = _FAMILY


class ResilientTransport(SyncTransport[httpx2.BaseTransport], httpx2.BaseTransport):
    """The same for ``httpx2.Client``, around an ``httpx2.HTTPTransport``. A wait for a place or for another attempt
    blocks the thread.
    """

    family = _FAMILY
