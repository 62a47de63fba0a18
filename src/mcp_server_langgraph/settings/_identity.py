"""Who calls: the Keycloak that issues the tokens."""

from __future__ import annotations

from ._fields import URL, Group, HttpUrl, setting

__all__ = ["IdentitySettings"]


class IdentitySettings(Group):
    """Who calls: the Keycloak that issues the tokens."""

    keycloak_url: HttpUrl | None = setting(
        None, "Keycloak that issues the callers' tokens; a local development identity where None.", URL
    )
    keycloak_realm: str | None = setting(None, "Realm of the tokens.", "a realm's name")
    keycloak_audience: str | None = setting(None, "Audience that a token must be meant for.", "an audience")
