"""Keycloak's verifier as the door of the server asks it."""

from __future__ import annotations

from mcp_server_langgraph.auth.identity import IdentityUnavailable, InvalidToken
from mcp_server_langgraph.auth.keycloak import KeycloakVerifier
from mcp_server_langgraph.server.authentication import Refused, TokenCheck, Unverifiable
from mcp_server_langgraph.server.identity import Caller

__all__ = ["keycloak_check"]


def keycloak_check(verifier: KeycloakVerifier) -> TokenCheck:
    """A check of tokens by that verifier."""

    async def check(token: str) -> Caller:
        try:
            identity = await verifier.verify(token)
        except InvalidToken as error:
            raise Refused(str(error)) from None
        except IdentityUnavailable as error:
            raise Unverifiable(error.retry_after) from None
        return Caller(identity.subject, "keycloak", identity.degraded)

    return check
