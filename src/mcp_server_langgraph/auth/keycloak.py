"""Access tokens of Keycloak, verified here with its public keys.

Keycloak is asked for its endpoints and keys, through the pipeline, and once in a while whether a token was revoked
where there is a `RevocationCheck`; else a token is checked without asking anybody. While Keycloak cannot be reached
the last good keys go on being used, up to a bounded age, and identities are marked as degraded. Expired, unsigned,
symmetrically signed and foreign tokens are never accepted, in that mode neither.

Errors: InvalidToken, IdentityUnavailable (see `identity`).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import jwt

from mcp_server_langgraph.auth._claims import ClaimCheck
from mcp_server_langgraph.auth._http import json_reply
from mcp_server_langgraph.auth._key_cache import KeyCache, UnknownKey
from mcp_server_langgraph.auth._key_set import Keys, signing_keys
from mcp_server_langgraph.auth._realm import Realm
from mcp_server_langgraph.auth._refreshed import Ages
from mcp_server_langgraph.auth._revocation import RevocationCheck
from mcp_server_langgraph.auth._token import read_token
from mcp_server_langgraph.auth.identity import Identity, InvalidToken
from mcp_server_langgraph.resilience import Fallback, Pipeline, Rung

__all__ = ["ALGORITHMS", "KeycloakVerifier", "RevocationCheck"]

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# Seconds that a refresh of the keys waits for the endpoints. No caller waits for it that long.
_DISCOVERY_PATIENCE: Final = 5.0
_signatures = jwt.PyJWS(algorithms=ALGORITHMS, options={"enforce_minimum_key_length": True})


class KeycloakVerifier:
    """Verifies the tokens of one realm for one audience.

    `url` is Keycloak's base URL; `issuer` is what tokens say when that differs from `url`/realms/`realm`;
    `algorithms` are those accepted, of `ALGORITHMS`. Durations in seconds: `leeway` between clocks; `soft_age` after
    which keys and endpoints are refreshed in the background; `hard_age` after which they are not trusted;
    `unknown_key_interval` between refreshes for unknown key ids; `patience` that a caller has with a refresh.
    `revocation` None: a token stands until it expires. `clock` gives seconds since the epoch. Raises ValueError for
    what cannot be.
    """

    def __init__(
        self,
        url: str,
        realm: str,
        audience: str,
        pipeline: Pipeline,
        *,
        issuer: str | None = None,
        algorithms: Sequence[str] = ALGORITHMS,
        leeway: float = 10.0,
        soft_age: float = 300.0,
        hard_age: float = 86_400.0,
        unknown_key_interval: float = 30.0,
        patience: float = 0.5,
        revocation: RevocationCheck | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._algorithms = frozenset(algorithms)
        if not self._algorithms or not self._algorithms <= set(ALGORITHMS):
            raise ValueError(f"algorithms must be some of {', '.join(ALGORITHMS)}, not {algorithms!r}")
        self._realm = Realm(url, realm, pipeline, issuer, Ages(soft_age, hard_age), _DISCOVERY_PATIENCE)
        self._claims = ClaimCheck(self._realm.issuer, audience, leeway)
        self._clock = clock
        self._pipeline = pipeline
        self._revocation = revocation
        self._keys = KeyCache(
            self._fetch_keys,
            soft_age=soft_age,
            hard_age=hard_age,
            unknown_interval=unknown_key_interval,
            patience=patience,
        )
        limits = Rung(lambda _failure: True, source="last good keys: limited features", also=(Exception,))
        self._limited = Pipeline(pipeline.name, Fallback(limits), operation="keycloak.verify")

    async def verify(self, token: str) -> Identity:
        """Who this access token speaks for. Raises InvalidToken, IdentityUnavailable."""
        found = read_token(token, self._algorithms)
        # Cheap checks first: a token that fails them anyway must not make us look for its key.
        self._claims.check(found.claims, self._clock())
        try:
            key = await self._keys.find(found.kid)
        except UnknownKey:
            raise InvalidToken("the token is signed with a key that the realm does not have") from None
        _check_signature(token, key)
        self._claims.check(found.claims, self._clock())
        unknown = self._keys.failure
        if self._revocation is not None:
            unknown = await self._revocation.unknown(token, found.signed)
        return self._claims.identity(found.claims, degraded=await self._is_limited(unknown))

    async def aclose(self) -> None:
        """Give the connections back."""
        if self._revocation is not None:
            await self._revocation.aclose()
        await self._keys.aclose()
        await self._realm.aclose()

    async def _fetch_keys(self) -> Keys:
        metadata = await self._realm.metadata()
        return await self._pipeline.call(self._fetch_key_set, metadata.jwks_uri)

    async def _fetch_key_set(self, url: str) -> Keys:
        return signing_keys(json_reply(await self._realm.http.get(url)), self._algorithms)

    async def _is_limited(self, failure: Exception | None) -> bool:
        """Whether Keycloak could not be asked. Counted and noted as the fallback that it is."""
        if failure is None or self._limited.site.bypassed:
            return failure is not None
        return await self._limited.call(_raise, failure)


async def _raise(failure: Exception) -> Any:
    raise failure.with_traceback(None)


def _check_signature(token: str, key: jwt.PyJWK) -> None:
    """The algorithm is the key's own: a token that says another one is refused, whatever its signature."""
    try:
        _signatures.decode(token, key, algorithms=[key.algorithm_name])
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidToken("the token's signature is not good") from None
