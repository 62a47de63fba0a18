"""Who calls: Keycloak's tokens, or the local development identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp_server_langgraph.resilience import Bulkhead, Pipeline
from mcp_server_langgraph.server.authentication import TokenCheck
from mcp_server_langgraph.server.limits import LIMITED
from mcp_server_langgraph.settings import Settings

from ._parts import Parts

if TYPE_CHECKING:
    from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
    from mcp_server_langgraph.auth.keycloak_client import KeycloakClient

__all__ = ["token_check"]

# After a restart every caller's token is asked about at once: a line that long takes Keycloak half a second.
_LONGEST_LINE: Final = 1_000


def token_check(parts: Parts) -> TokenCheck | None:
    """The check of tokens that the settings describe; None where no identity is asked for."""
    settings = parts.settings
    if settings.keycloak_url is None:
        parts.embedded("keycloak", "not configured: every caller is the local development identity")
        return None
    from mcp_server_langgraph.server.tokens import keycloak_check

    line = Bulkhead(name="keycloak", max_queue=_LONGEST_LINE)
    verifier = _verifier(parts, settings.keycloak_url, Pipeline.standard("keycloak", admission=line))
    asked = "" if settings.keycloak_client_secret is None else ", checked for revocation"
    realm = settings.keycloak_realm
    probe = parts.http_probes.answers(
        f"{settings.keycloak_url}/realms/{realm}/.well-known/openid-configuration", "issuer"
    )
    parts.remote("keycloak", f"identities of realm {realm}{asked}", LIMITED, probe)
    return keycloak_check(verifier)


def _verifier(parts: Parts, url: str, pipeline: Pipeline) -> KeycloakVerifier:
    from mcp_server_langgraph.auth.keycloak import KeycloakVerifier, RevocationCheck

    settings = parts.settings
    client = _client(settings, url, pipeline)
    revocation = None
    if client is not None:
        revocation = RevocationCheck(client.introspect, max_age=settings.keycloak_revocation_seconds)
    verifier = KeycloakVerifier(
        url,
        settings.keycloak_realm or "",
        settings.keycloak_audience or "",
        pipeline,
        algorithms=settings.keycloak_algorithms,
        leeway=settings.keycloak_clock_skew_seconds,
        revocation=revocation,
        **_published(settings),
    )
    parts.closers.append(verifier.aclose)
    if client is not None:
        parts.closers.append(client.aclose)
    return verifier


def _client(settings: Settings, url: str, pipeline: Pipeline) -> KeycloakClient | None:
    """What asks Keycloak about tokens, where there is a secret to ask with."""
    if settings.keycloak_client_secret is None:
        return None
    from mcp_server_langgraph.auth.keycloak_client import KeycloakClient

    client_id = settings.keycloak_client_id or settings.keycloak_audience or ""
    secret = settings.keycloak_client_secret.get_secret_value()
    realm = settings.keycloak_realm or ""
    return KeycloakClient(url, realm, client_id, secret, pipeline, **_published(settings))


def _published(settings: Settings) -> dict[str, Any]:
    """What holds for all that the realm publishes."""
    hard = settings.keycloak_keys_max_age_seconds
    soft = min(settings.keycloak_keys_refresh_seconds, hard)
    return {"issuer": settings.keycloak_issuer, "soft_age": soft, "hard_age": hard}
