"""What a stranger may never get from the server, whatever is sent to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx2

from tests.server.running import RunningServer

__all__ = ["SECONDS", "leaks", "said", "unharmed"]

SECONDS: Final = 60.0
"""Until an answer must have begun; a busy machine takes long for what takes milliseconds."""

_READ: Final = 200_000
_INTERNAL: Final = re.compile(
    r'Traceback|File "|\.py\b|site-packages|/src/|0x[0-9a-f]{8}|pydantic_core|anyio\.'
)


def leaks(text: str) -> str | None:
    """The first sign of the server's inside in an answer; None where there is none."""
    found = _INTERNAL.search(text)
    return None if found is None else text[max(0, found.start() - 60) : found.end() + 60]


def said(client: httpx2.Client, method: str, url: str, **options: object) -> tuple[int, str]:
    """Status and beginning of the body. An endless stream is read for its first part only."""
    with client.stream(method, url, timeout=SECONDS, **options) as response:  # type: ignore[arg-type]
        endless = method == "GET" and "event-stream" in response.headers.get("content-type", "")
        if endless:
            return response.status_code, ""
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > _READ:
                break
        return response.status_code, body.decode(errors="replace")


@contextmanager
def unharmed(server: RunningServer) -> Iterator[None]:
    """Whatever happened meanwhile, the server is alive, serves, and had no error of its own to log."""
    before = len(server.log())
    yield
    assert server.get("/health/live").status_code == 200
    assert server.get("/health/startup").status_code == 200
    errors = [line for line in server.log()[before:] if line["level"] == "ERROR" or "frames" in line]
    assert errors == []
