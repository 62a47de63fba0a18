"""Who calls: Keycloak's tokens, or the local development identity."""

from __future__ import annotations

from mcp_server_langgraph.resilience import Pipeline
from mcp_server_langgraph.server.authentication import TokenCheck

from ._parts import Parts

__all__ = ["token_check"]


def token_check(parts: Parts) -> TokenCheck | None:
    """The check of tokens that the settings describe; None where no identity is asked for."""
    url, realm, audience = (
        getattr(parts.settings, f"keycloak_{part}") for part in ("url", "realm", "audience")
    )
    if url is None:
        parts.embedded("keycloak", "not configured: every caller is the local development identity")
        return None
    from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
    from mcp_server_langgraph.server.tokens import keycloak_check

    verifier = KeycloakVerifier(url, realm, audience, Pipeline.standard("keycloak"))
    parts.closers.append(verifier.aclose)
    probe = parts.http_probes.answers(f"{url}/realms/{realm}/.well-known/openid-configuration", "issuer")
    parts.remote("keycloak", f"identities of realm {realm}", "last good keys: limited features", probe)
    return keycloak_check(verifier)
