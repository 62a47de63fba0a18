"""What a confidential client asks Keycloak: userinfo, introspection, refresh and exchange of tokens.

Userinfo and introspection only read, and are retried as the pipeline says. Refresh and exchange are never repeated:
where the realm rotates refresh tokens, a repeated refresh looks to Keycloak like a stolen token and ends the session
(RFC 9700, section 4.14.2). One whose answer was lost is reported; whoever needs the token logs in again.

Errors: InvalidToken, InvalidGrant, ClientRefused, IdentityUnavailable (see `identity`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote_plus

import httpx2

from mcp_server_langgraph.auth._grants import (
    Introspection,
    TokenSet,
    introspection,
    refused,
    token_set,
    user_claims,
)
from mcp_server_langgraph.auth._http import json_reply
from mcp_server_langgraph.auth._realm import Realm
from mcp_server_langgraph.auth._refreshed import Ages
from mcp_server_langgraph.auth._repeats import never_repeated, repeatable
from mcp_server_langgraph.auth.identity import ClientRefused, IdentityUnavailable
from mcp_server_langgraph.resilience import Pipeline, Rejected, classify

__all__ = ["Introspection", "KeycloakClient", "TokenSet"]

T = TypeVar("T")

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class KeycloakClient:
    """A confidential client of one realm, guarded by `pipeline`.

    `url`, `realm`, `issuer` and the ages are those of `KeycloakVerifier`. The secret goes to the realm's own endpoints
    only, as HTTP Basic. `patience`: seconds that a caller waits for the endpoints when they are not known yet.
    """

    def __init__(
        self,
        url: str,
        realm: str,
        client_id: str,
        client_secret: str,
        pipeline: Pipeline,
        *,
        issuer: str | None = None,
        soft_age: float = 300.0,
        hard_age: float = 86_400.0,
        patience: float = 0.5,
    ) -> None:
        self._realm = Realm(url, realm, pipeline, issuer, Ages(soft_age, hard_age), patience)
        # RFC 6749, section 2.3.1: both are form-encoded before they become user and password.
        self._auth = httpx2.BasicAuth(quote_plus(client_id), quote_plus(client_secret))
        self._reads = {name: repeatable(pipeline, f"keycloak.{name}") for name in ("userinfo", "introspect")}
        self._grants = {
            name: never_repeated(pipeline, f"keycloak.{name}") for name in ("refresh", "exchange")
        }

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """The claims about the user of this access token. Whose they are says `sub`: compare it.

        Raises InvalidToken, ClientRefused, IdentityUnavailable.
        """
        url = _needed((await self._realm.metadata()).userinfo_endpoint, "userinfo")

        async def ask() -> Mapping[str, Any]:
            bearer = {"authorization": f"Bearer {access_token}"}
            return user_claims(json_reply(await self._realm.http.get(url, headers=bearer)))

        return await _answered(self._reads["userinfo"], ask)

    async def introspect(self, token: str) -> Introspection:
        """What Keycloak says of this access token now (RFC 7662).

        Keycloak calls a token inactive, too, whose audience the asking client is not in (since 26.6.2). Raises
        ClientRefused, IdentityUnavailable.
        """
        url = _needed((await self._realm.metadata()).introspection_endpoint, "introspection")

        async def ask() -> Introspection:
            form = {"token": token, "token_type_hint": "access_token"}
            return introspection(json_reply(await self._realm.http.post(url, data=form, auth=self._auth)))

        return await _answered(self._reads["introspect"], ask)

    async def refresh(self, refresh_token: str, *, scope: str | None = None) -> TokenSet:
        """New tokens for a refresh token, which may be used up by it. Asked once.

        Raises InvalidGrant, ClientRefused, and IdentityUnavailable, after which the refresh token may be used up too.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self._grant("refresh", form if scope is None else {**form, "scope": scope})

    async def exchange(
        self, subject_token: str, *, audience: str | Sequence[str] = (), scope: str | None = None
    ) -> TokenSet:
        """An access token for other services, for the user of this one (RFC 8693). Asked once.

        `audience`: clients that it shall be for. The client must be in the audience of `subject_token`, and "Standard
        token exchange" be switched on for it. Raises InvalidGrant, ClientRefused, IdentityUnavailable.
        """
        form: dict[str, Any] = {
            "grant_type": _EXCHANGE,
            "subject_token": subject_token,
            "subject_token_type": _ACCESS_TOKEN,
            "requested_token_type": _ACCESS_TOKEN,
            "audience": [audience] if isinstance(audience, str) else list(audience),
        }
        return await self._grant("exchange", form if scope is None else {**form, "scope": scope})

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._realm.aclose()

    async def _grant(self, name: str, form: Mapping[str, Any]) -> TokenSet:
        url = _needed((await self._realm.metadata()).token_endpoint, "token")

        async def ask() -> TokenSet:
            return token_set(json_reply(await self._realm.http.post(url, data=form, auth=self._auth)))

        return await _answered(self._grants[name], ask)


def _needed(url: str | None, name: str) -> str:
    if url is None:
        raise ClientRefused(f"the realm has no {name} endpoint")
    return url


async def _answered(pipeline: Pipeline, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, or an error that says whose fault it is."""
    try:
        return await pipeline.call(ask)
    except httpx2.HTTPStatusError as error:
        raise refused(error) from error
    except Exception as error:
        verdict = classify(error)
        if not verdict.unavailable and not isinstance(error, Rejected):
            raise
        wait = error.retry_after if isinstance(error, Rejected) else verdict.retry_after
        raise IdentityUnavailable(f"Keycloak did not answer ({type(error).__name__})", wait) from error
