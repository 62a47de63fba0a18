"""Access tokens of Keycloak, verified here with its public keys.

Keycloak is asked for keys only, through the pipeline; a token is checked without asking anybody. While Keycloak
cannot be reached the last good keys go on being used, up to a bounded age, and identities are marked as degraded.
Expired, unsigned, symmetrically signed and foreign tokens are never accepted, in that mode neither.

Errors: InvalidToken, IdentityUnavailable (see `identity`).
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import jwt

from mcp_server_langgraph.auth._claims import ClaimCheck
from mcp_server_langgraph.auth._http import json_reply, new_client
from mcp_server_langgraph.auth._key_cache import KeyCache, Keys, UnknownKey, signing_keys
from mcp_server_langgraph.auth.identity import Identity, InvalidToken
from mcp_server_langgraph.resilience import Fallback, Pipeline, Rung

__all__ = ["ALGORITHMS", "KeycloakVerifier"]

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_LONGEST_TOKEN: Final = 16_384
_TOKEN_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
_signatures = jwt.PyJWS(algorithms=ALGORITHMS, options={"enforce_minimum_key_length": True})


class KeycloakVerifier:
    """Verifies the tokens of one realm for one audience.

    `url` is Keycloak's base URL; `issuer` is what tokens say when that differs from `url`/realms/`realm`. Durations
    in seconds: `leeway` between clocks; `soft_age` after which keys are refreshed in the background; `hard_age`
    after which they are not trusted; `unknown_key_interval` between refreshes for unknown key ids; `patience` that
    a caller has with a refresh. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        realm: str,
        audience: str,
        pipeline: Pipeline,
        *,
        issuer: str | None = None,
        leeway: float = 10.0,
        soft_age: float = 300.0,
        hard_age: float = 86_400.0,
        unknown_key_interval: float = 30.0,
        patience: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        realm_url = f"{url.rstrip('/')}/realms/{quote(realm, safe='')}"
        self._keys_url = f"{realm_url}/protocol/openid-connect/certs"
        self._claims = ClaimCheck(issuer or realm_url, audience, leeway)
        self._clock = clock
        self._pipeline = pipeline
        self._client = new_client(url)
        self._keys = KeyCache(
            lambda: pipeline.call(self._fetch_keys),
            soft_age=soft_age,
            hard_age=hard_age,
            unknown_interval=unknown_key_interval,
            patience=patience,
        )
        limits = Rung(lambda _failure: True, source="last good keys: limited features", also=(Exception,))
        self._limited = Pipeline(pipeline.name, Fallback(limits), operation="keycloak.verify")

    async def verify(self, token: str) -> Identity:
        """Who this access token speaks for. Raises InvalidToken, IdentityUnavailable."""
        header = _header(token)
        # Cheap checks first: a token that fails them anyway must not make us look for its key.
        self._claims.check(_unverified(token), self._clock())
        try:
            key = await self._keys.find(header["kid"])
        except UnknownKey:
            raise InvalidToken("the token is signed with a key that the realm does not have") from None
        claims = _verified(token, key)
        self._claims.check(claims, self._clock())
        return self._claims.identity(claims, degraded=await self._is_limited())

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._keys.aclose()
        await self._client.aclose()

    async def _fetch_keys(self) -> Keys:
        return signing_keys(json_reply(await self._client.get(self._keys_url)))

    async def _is_limited(self) -> bool:
        """Whether the keys could not be refreshed when last tried. Counted and noted as the fallback that it is."""
        failure = self._keys.failure
        if failure is None or self._limited.site.bypassed:
            return failure is not None
        return await self._limited.call(_raise, failure)


async def _raise(failure: Exception) -> bool:
    raise failure.with_traceback(None)


def _header(token: str) -> dict[str, Any]:
    """The header, with an allowed algorithm, an access token's type, and a key id."""
    if len(token) > _LONGEST_TOKEN:
        raise InvalidToken("the token is too long")
    with _or_invalid("this is not a signed JSON web token"):
        header = jwt.get_unverified_header(token)
    if header.get("alg") not in ALGORITHMS:
        raise InvalidToken("the token's signature algorithm is not allowed")
    if str(header.get("typ", "JWT")).lower() not in _TOKEN_TYPES:
        raise InvalidToken("this is not an access token")
    if not isinstance(header.get("kid"), str) or not header["kid"]:
        raise InvalidToken("the token does not say which key signed it")
    return header


def _unverified(token: str) -> dict[str, Any]:
    """The claims as they stand there."""
    with _or_invalid("the token cannot be read"):
        return _claims_in(_signatures.decode(token, options={"verify_signature": False}))


def _verified(token: str, key: jwt.PyJWK) -> dict[str, Any]:
    """The claims, once the signature is found good."""
    with _or_invalid("the token's signature is not good"):
        return _claims_in(_signatures.decode(token, key, algorithms=ALGORITHMS))


def _claims_in(payload: bytes) -> dict[str, Any]:
    claims = json.loads(payload)
    if not isinstance(claims, dict):
        raise InvalidToken("the token's claims are not an object")
    return claims


@contextmanager
def _or_invalid(why: str) -> Iterator[None]:
    """Whatever a stranger's bytes do to the parsers, it is the token that is bad."""
    try:
        yield
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken(why) from None
