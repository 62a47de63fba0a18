"""Who calls: the Keycloak that issues the tokens."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, SecretStr

from ._fields import URL, Group, HttpUrl, Names, setting

__all__ = ["IdentitySettings"]

_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


def _algorithms(value: list[str]) -> list[str]:
    if not value or not set(value) <= set(_ALGORITHMS):
        raise ValueError("algorithms")
    return value


class IdentitySettings(Group):
    """Who calls: the Keycloak that issues the tokens."""

    keycloak_url: HttpUrl | None = setting(
        None, "Keycloak that issues the callers' tokens; a local development identity where unset.", URL
    )
    keycloak_realm: str | None = setting(None, "Realm of the tokens.", "a realm's name")
    keycloak_audience: str | None = setting(None, "Audience that a token must be meant for.", "an audience")
    keycloak_issuer: HttpUrl | None = setting(
        None, "Issuer that tokens name, where it is not KEYCLOAK_URL/realms/KEYCLOAK_REALM.", URL
    )
    keycloak_algorithms: Annotated[Names, AfterValidator(_algorithms)] = setting(
        list(_ALGORITHMS),
        "Signature algorithms that are accepted; never a symmetric one.",
        f"comma separated, of {', '.join(_ALGORITHMS)}",
    )
    keycloak_clock_skew_seconds: float = setting(
        10.0, "Seconds by which Keycloak's clock may differ from ours.", "a number, 0 to 300", ge=0, le=300
    )
    keycloak_keys_refresh_seconds: float = setting(
        300.0,
        "Age at which keys and endpoints are refreshed in the background.",
        "a number above 0",
        gt=0,
        allow_inf_nan=False,
    )
    keycloak_keys_max_age_seconds: float = setting(
        86_400.0,
        "Age up to which keys are trusted while Keycloak cannot be asked.",
        "a number above 0",
        gt=0,
        allow_inf_nan=False,
    )
    keycloak_client_id: str | None = setting(
        None, "Client as which the server asks Keycloak; KEYCLOAK_AUDIENCE where unset.", "a client's id"
    )
    keycloak_client_secret: SecretStr | None = setting(
        None,
        "Secret of that client. With it Keycloak is asked whether a token was revoked; without it a token stands until "
        "it expires.",
        "a client's secret",
    )
    keycloak_revocation_seconds: float = setting(
        15.0,
        "Seconds for which Keycloak's word that a token is not revoked is good.",
        "a number, 0 to 3600",
        ge=0,
        le=3600,
    )
