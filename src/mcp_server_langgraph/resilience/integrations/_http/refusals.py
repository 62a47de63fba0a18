"""What an HTTP client is answered where the layer has refused its request, or cut it."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from ...errors import DeadlineExceeded, Overloaded, RateLimited, Rejected, TimedOut

__all__ = ["Refusal", "refusal_of"]

_MEDIA_TYPE: Final = b"application/problem+json"


class Refusal(NamedTuple):
    """An answer: its status, its headers, its body."""

    status: HTTPStatus
    headers: list[tuple[bytes, bytes]]
    body: bytes


def refusal_of(error: Rejected | TimedOut, door: str) -> Refusal:
    """The answer for ``error``.

    429 where the rate limit of pipeline ``door`` refused: the caller asks too much. 504 where time is up. 503 for every
    other rejection, also those of pipelines further in: a quota that *we* have used up is not the caller's fault.
    """
    status = _status_of(error, door)
    wait = (
        error.retry_after
        if isinstance(error, Rejected) and status is not HTTPStatus.GATEWAY_TIMEOUT
        else None
    )
    wait = (
        None if wait is None else round(wait, 3)
    )  # the clock's last digits would round up to a whole second more
    body = _body(status, str(error), wait)
    headers = [
        (b"content-type", _MEDIA_TYPE),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if wait is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait))))
    if isinstance(error, Overloaded):
        headers.append((b"x-should-retry", b"false"))
    return Refusal(status, headers, body)


def _status_of(error: Rejected | TimedOut, door: str) -> HTTPStatus:
    if isinstance(error, (TimedOut, DeadlineExceeded)):
        return HTTPStatus.GATEWAY_TIMEOUT
    if isinstance(error, RateLimited) and error.pipeline == door:
        return HTTPStatus.TOO_MANY_REQUESTS
    return HTTPStatus.SERVICE_UNAVAILABLE


def _body(status: HTTPStatus, detail: str, wait: float | None) -> bytes:
    told: dict[str, Any] = {"title": status.phrase, "status": int(status), "detail": detail}
    if wait is not None:
        told["retryAfterMs"] = math.ceil(wait * 1000)
    return json.dumps(told).encode()
