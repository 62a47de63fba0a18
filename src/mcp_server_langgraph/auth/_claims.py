"""What a Keycloak access token must say to be accepted, once its signature is known to be good (or before)."""

from collections.abc import Mapping
from typing import Any, Final

from mcp_server_langgraph.auth.identity import Identity, InvalidToken

__all__ = ["ClaimCheck"]

# Keycloak's own account service stands in `aud` of every token, whoever it is for.
_EVERYWHERE: Final = frozenset({"account"})
# Seconds since the epoch, in the year 9999. An integer of JSON can be too large for a float.
_LATEST: Final = 253_402_300_799


class ClaimCheck:
    """The rules for one issuer and one audience. `leeway`: seconds by which clocks may differ."""

    def __init__(self, issuer: str, audience: str, leeway: float) -> None:
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway

    def check(self, claims: Mapping[str, Any], now: float) -> None:
        """Raise InvalidToken unless the claims are those of an access token for us, valid at `now`."""
        if claims.get("iss") != self._issuer:
            raise InvalidToken("the token was issued by somebody else")
        self._check_times(claims, now)
        if "cnf" in claims:
            # RFC 8705, RFC 9449: whoever stole it cannot use it, if nobody takes it without the proof.
            raise InvalidToken("the token is bound to a key (cnf), and no proof of it can be given here")
        if not self._is_for_us(claims):
            raise InvalidToken("the token is for another audience")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise InvalidToken("the token names no subject")

    def identity(self, claims: Mapping[str, Any], *, degraded: bool) -> Identity:
        """The caller that checked claims describe."""
        subject = str(claims["sub"])
        own = _mapping(_mapping(claims.get("resource_access")).get(self._audience))
        return Identity(
            subject=subject,
            username=str(claims.get("preferred_username") or subject),
            roles=_roles(_mapping(claims.get("realm_access"))) | _roles(own),
            claims_expire_at=float(claims["exp"]),
            degraded=degraded,
        )

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        expires = _seconds(claims, "exp")
        if expires is None:
            raise InvalidToken("the token does not say when it expires")
        if now >= expires + self._leeway:
            raise InvalidToken("the token has expired")
        for name in ("nbf", "iat"):
            begins = _seconds(claims, name)
            if begins is not None and now < begins - self._leeway:
                raise InvalidToken("the token is not valid yet")

    def _is_for_us(self, claims: Mapping[str, Any]) -> bool:
        """Our audience is in `aud`; or we are the client that asked for it (`azp`) and `aud` names no other service.

        A token that we got for another service is refused: that service could pass it on to us.
        """
        audience = claims.get("aud", [])
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            return False
        return self._audience in named or (
            claims.get("azp") == self._audience and _EVERYWHERE.issuperset(named)
        )


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise InvalidToken(f"the token's {name} is not a time")
    return float(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _roles(holder: Mapping[str, Any]) -> frozenset[str]:
    roles = holder.get("roles")
    return (
        frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()
    )
