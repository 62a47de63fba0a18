"""OpenID Connect Discovery: where the endpoints of a realm are, told by the realm itself.

Nothing is taken from a document that a realm would not write: its issuer must be the one that was configured (OpenID
Connect Discovery 1.0, section 4.3, and RFC 9207's reason, the mix-up attack), and every endpoint must be below the
realm's own URL, as Keycloak's all are. So a poisoned document cannot send our secret or our trust elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from mcp_server_langgraph.auth._http import UnusableReply

__all__ = ["DOCUMENT_PATH", "ProviderMetadata", "provider_metadata"]

DOCUMENT_PATH: Final = "/.well-known/openid-configuration"
_PORTS: Final = {"http": 80, "https": 443}
_NOT_IN_PATH: Final = ("..", "\\", "%")


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The endpoints that are used here, as URLs; None where the realm does not have one."""

    issuer: str
    jwks_uri: str
    token_endpoint: str | None
    userinfo_endpoint: str | None
    introspection_endpoint: str | None


def provider_metadata(document: Mapping[str, Any], realm_url: str, issuer: str) -> ProviderMetadata:
    """What `document` says, if the realm at `realm_url` that issues as `issuer` can have said it.

    Raises UnusableReply.
    """
    if document.get("issuer") != issuer:
        raise UnusableReply("the discovery document is of another issuer")
    roots = [urlsplit(realm_url), urlsplit(issuer)]

    def endpoint(name: str) -> str | None:
        url = document.get(name)
        if url is None:
            return None
        if not isinstance(url, str) or not any(_is_below(root, url) for root in roots):
            raise UnusableReply(f"the discovery document's {name} is not the realm's own")
        return url

    jwks_uri = endpoint("jwks_uri")
    if jwks_uri is None:
        raise UnusableReply("the discovery document names no keys")
    return ProviderMetadata(
        issuer,
        jwks_uri,
        endpoint("token_endpoint"),
        endpoint("userinfo_endpoint"),
        endpoint("introspection_endpoint"),
    )


def _is_below(root: SplitResult, url: str) -> bool:
    try:
        parts = urlsplit(url)
        same = _origin(parts) == _origin(root) and parts.username is None
    except ValueError:
        return False
    tail = parts.path.removeprefix(root.path.rstrip("/") + "/")
    straight = tail != parts.path and not any(odd in tail for odd in _NOT_IN_PATH)
    return same and straight and not parts.query and not parts.fragment and url.isprintable()


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
