"""Probes: one cheap question to a service, that only a service which works answers.

A connection proves nothing: the kernel accepts it for a process that is stopped, or that still loads its data. So
Redis is asked PING, OpenFGA and Keycloak what they have for this, and Prometheus to evaluate a constant (its own
``/-/ready`` is not there behind a proxy, nor with what only speaks its API). Nothing secret is sent to Redis: that it
asks for a password is an answer too.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import httpx2

__all__ = ["PROBE_SECONDS", "HttpProbes", "Probe", "redis_answers"]

PROBE_SECONDS: Final = 0.5

Probe = Callable[[], Awaitable[None]]
"""Returns where the service answers as it should. Raises whatever shows that it does not."""

_ANSWERS_OF_REDIS: Final = (b"+PONG", b"-NOAUTH", b"-NOPERM")
_LONGEST_ANSWER: Final = 1024
_LONGEST_BODY: Final = 1 << 18


class HttpProbes:
    """Probes over HTTP, with one client for all of them."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    def answers(self, url: str, key: str, value: str | None = None) -> Probe:
        """A GET of ``url`` that is answered 200 and a JSON object with ``key``, which is ``value`` (None: anything)."""

        async def probe() -> None:
            # Made when first used: the certificates take 0.1 s to load.
            self._client = self._client or httpx2.AsyncClient(timeout=PROBE_SECONDS)
            async with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise ConnectionError(f"answered {response.status_code}")
                found = json.loads(await _read(response))[key]
            if value not in (None, found):
                raise ConnectionError(f"answered another {key}")

        return probe

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _LONGEST_BODY:
            raise ConnectionError("answered too much")
    return bytes(body)


def redis_answers(url: str, tls: ssl.SSLContext | None = None) -> Probe:
    """A PING to the Redis at ``url`` (redis, rediss or unix). ``tls``: with which certificates; None: the system's."""
    parts = urlsplit(url)

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path, limit=_LONGEST_ANSWER)
        secure = (tls or ssl.create_default_context()) if parts.scheme == "rediss" else None
        return await asyncio.open_connection(
            parts.hostname, parts.port or 6379, ssl=secure, limit=_LONGEST_ANSWER
        )

    async def probe() -> None:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await connected()
            try:
                writer.write(b"PING\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
        if not answer.startswith(_ANSWERS_OF_REDIS):
            raise ConnectionError("no answer to PING")

    return probe
