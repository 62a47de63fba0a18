"""The answers of Keycloak's endpoints for clients, and what its refusals mean."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from mcp_server_langgraph.auth._http import UnusableReply
from mcp_server_langgraph.auth.identity import (
    ClientRefused,
    IdentityError,
    IdentityUnavailable,
    InvalidGrant,
    InvalidToken,
)
from mcp_server_langgraph.resilience import classify

__all__ = ["Introspection", "TokenSet", "introspection", "refused", "token_set", "user_claims"]

_CODE: Final = re.compile(r"[a-z_]{1,40}", re.ASCII)
_BAD_SUBJECT: Final = ("invalid_request", "Invalid token")


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What the token endpoint gave. `expires_in`: seconds; None where it did not say. Tokens are not in the repr."""

    access_token: str = field(repr=False)
    expires_in: float | None
    refresh_token: str | None = field(default=None, repr=False)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Introspection:
    """What Keycloak says of a token. `claims` are empty unless it is active."""

    active: bool
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


def token_set(reply: Mapping[str, Any]) -> TokenSet:
    """The tokens in a reply. Raises UnusableReply."""
    access, refresh = reply.get("access_token"), reply.get("refresh_token")
    if not isinstance(access, str) or not access or str(reply.get("token_type")).lower() != "bearer":
        raise UnusableReply("the reply holds no bearer token")
    expires = reply.get("expires_in")
    seconds = float(expires) if isinstance(expires, int | float) else None
    return TokenSet(
        access, seconds, refresh if isinstance(refresh, str) else None, str(reply.get("scope", ""))
    )


def introspection(reply: Mapping[str, Any]) -> Introspection:
    """What a reply says of a token. Raises UnusableReply: what is not plainly yes or no is neither."""
    active = reply.get("active")
    if not isinstance(active, bool):
        raise UnusableReply("the reply does not say whether the token is active")
    return Introspection(active, dict(reply) if active else {})


def user_claims(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claims in a reply. Raises UnusableReply unless they say of whom they are."""
    if not isinstance(reply.get("sub"), str) or not reply["sub"]:
        raise UnusableReply("the reply names no subject")
    return dict(reply)


def refused(error: httpx2.HTTPStatusError) -> IdentityError:
    """Whose fault a refusal is: the token's, this server's, or nobody's (it was no answer)."""
    response = error.response
    status, (code, why) = response.status_code, _told(response)
    if status in (400, 401, 403) and code == "invalid_grant":
        return InvalidGrant("Keycloak does not accept the token")
    # RFC 8693, section 2.2.2: a bad subject token is an invalid_request; Keycloak has others of that name.
    if status in (400, 401, 403) and (code == "invalid_token" or (code, why) == _BAD_SUBJECT):
        return _invalid()
    if status in (401, 403) and "bearer" in response.headers.get("www-authenticate", "").lower():
        return _invalid()
    if status in (400, 401, 403):
        return ClientRefused(f"Keycloak refuses this server: {code or f'status {status}'}")
    return IdentityUnavailable(f"Keycloak did not answer (status {status})", classify(error).retry_after)


def _invalid() -> InvalidToken:
    return InvalidToken("Keycloak does not accept the token")


def _told(response: httpx2.Response) -> tuple[str, str]:
    """Error code and description (RFC 6749, section 5.2). The description is for us only: it may hold what was sent."""
    try:
        body = response.json()
        code, why = body["error"], body.get("error_description")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""
    return (code if isinstance(code, str) and _CODE.fullmatch(code) else "", str(why))
