"""The form of an access token, read strictly: what two parsers could read in two ways is no token.

Compact JWS (RFC 7515): three parts of base64url without padding; header and claims are JSON objects in which no name
stands twice (RFC 8725, section 3.10, and the reason for it: the one who checks and the one who uses must see the same).
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from mcp_server_langgraph.auth.identity import InvalidToken

__all__ = ["AccessToken", "read_token"]

_LONGEST_TOKEN: Final = 16_384
_LONGEST_KEY_ID: Final = 256
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_AT_JWT: Final = ("at+jwt", "application/at+jwt")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that was read, and not verified. `signed` is what its signature is made over."""

    kid: str
    claims: dict[str, Any]
    signed: str


def read_token(token: str, algorithms: frozenset[str]) -> AccessToken:
    """The token's parts, if it has an access token's form and says an allowed algorithm. Raises InvalidToken."""
    if len(token) > _LONGEST_TOKEN:
        raise InvalidToken("the token is too long")
    if not _COMPACT.fullmatch(token):
        raise InvalidToken("this is not a signed JSON web token")
    signed = token.rpartition(".")[0]
    first, _, second = signed.partition(".")
    header = _object(first, "header")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise InvalidToken("the token's signature algorithm is not allowed")
    if "crit" in header:
        raise InvalidToken("the token asks for extensions that are not known here")
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_KEY_ID:
        raise InvalidToken("the token does not say which key signed it")
    claims = _object(second, "claims")
    _check_type(header, claims)
    return AccessToken(kid, claims, signed)


def _check_type(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """It says of itself that it is an access token: as RFC 9068 has it, or as Keycloak does.

    Keycloak says so in the claim `typ`: "Bearer", where "ID", "Refresh", "Offline", "Logout" are other kinds.
    """
    said = str(header.get("typ", "JWT")).lower()
    if said not in ("jwt", *_AT_JWT) or claims.get("typ", "Bearer" if said in _AT_JWT else None) != "Bearer":
        raise InvalidToken("this is not an access token")


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        text = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True).decode()
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    # Whatever a stranger's bytes do to the parsers, it is the token that is bad.
    except (ValueError, RecursionError, binascii.Error):
        raise InvalidToken(f"the token's {what} cannot be read") from None
    if not isinstance(found, dict):
        raise InvalidToken(f"the token's {what} cannot be read")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
