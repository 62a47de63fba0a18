"""A dead service for every client: it answers 500, is silent, or loses connections, and counts; and waits that are not
waited.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import anyio._backends._asyncio
import pytest
import redis.asyncio.retry
import redis.retry

from tests.support.http_server import HttpServer, Request, Response

__all__ = ["DeadService", "no_waiting"]

_sleep = asyncio.sleep


class DeadService(HttpServer):
    """Answers 500, with JSON that every client can read."""

    async def handle(self, request: Request) -> Response:
        return Response({"error": {"message": "dead"}, "code": "internal_error", "message": "dead"}, 500)


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that are asked for from now on between attempts, none of which are waited."""
    waits: list[float] = []

    async def at_once(seconds: float, result: Any = None) -> Any:
        waits.append(seconds)
        await _sleep(0)
        return result

    for module in (asyncio, anyio, anyio._backends._asyncio, redis.asyncio.retry):
        monkeypatch.setattr(module, "sleep", at_once)
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(redis.retry, "sleep", waits.append)
    return waits
