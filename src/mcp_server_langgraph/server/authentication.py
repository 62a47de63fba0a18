"""Bearer tokens at the door of ``/mcp``: verified by Keycloak's keys, never taken as a tool's argument."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server_langgraph.server.identity import Caller, CallerUser

__all__ = ["Authentication", "Refused", "TokenCheck", "Unverifiable"]

logger = logging.getLogger(__name__)

_CHALLENGE: Final = "Bearer"


class Refused(Exception):
    """The token is not good. The text may be shown to the caller."""


class Unverifiable(Exception):
    """The token cannot be verified now. ``retry_after`` is in seconds, None where not known."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class TokenCheck(Protocol):
    """Tells whose token this is."""

    def __call__(self, token: str) -> Awaitable[Caller]:
        """The caller. Raises Refused, Unverifiable."""
        ...


class Authentication:
    """ASGI middleware: 401 without a good token, 503 while nobody can tell, else the caller in the scope.

    The SDK's own verifier hook answers a bare 500 when the identity provider is down; hence this one.
    ``metadata_url`` gives the URL of the protected resource's metadata (RFC 9728) for a request.
    """

    def __init__(
        self, app: ASGIApp, check: TokenCheck, issuer: str, metadata_url: Callable[[Headers], str]
    ) -> None:
        self._app = app
        self._check = check
        self._issuer = issuer
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.getlist("authorization")
        try:
            scope["user"] = CallerUser(await self._check(_bearer(given)), self._issuer)
        except Refused as refused:
            await self._refuse(headers, str(refused), send, given=bool(given))
        except Unverifiable as unverifiable:
            await _unavailable(unverifiable.retry_after, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, headers: Headers, why: str, send: Send, *, given: bool) -> None:
        logger.info("token refused", extra={"fields": {"reason": why}})
        # RFC 6750, section 3.1: no error code where no token was given.
        parts = [f'error="invalid_token", error_description="{_quotable(why)}"'] if given else []
        parts.append(f'resource_metadata="{self._metadata_url(headers)}"')
        challenge = f"{_CHALLENGE} {', '.join(parts)}"
        await _answer(
            send, 401, {"error": "invalid_token", "error_description": why}, ("www-authenticate", challenge)
        )


def _bearer(given: list[str]) -> str:
    """The token in the Authorization header. Raises Refused.

    Of two headers the one that is checked here and the one that something behind us believes could differ.
    """
    if len(given) > 1:
        raise Refused("more than one Authorization header")
    scheme, _, token = given[0].partition(" ") if given else ("", "", "")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused("a bearer token is required")
    return token


async def _unavailable(retry_after: float | None, send: Send) -> None:
    seconds = str(max(1, math.ceil(retry_after or 1)))
    body = {"error": "temporarily_unavailable", "error_description": "the identity provider cannot be asked"}
    await _answer(send, 503, body, ("retry-after", seconds))


async def _answer(send: Send, status: int, body: dict[str, str], header: tuple[str, str]) -> None:
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (header[0].encode("latin-1"), header[1].encode("latin-1", "replace")),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _quotable(text: str) -> str:
    return "".join(sign if sign.isprintable() and sign not in '"\\' else "'" for sign in text)
