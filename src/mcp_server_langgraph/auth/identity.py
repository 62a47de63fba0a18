"""Who calls.

IdentityError
+-- InvalidToken           the caller's fault; a new token may help (HTTP 401)
+-- IdentityUnavailable    nobody's answer yet: the keys cannot be had now; carries retry_after (HTTP 503)
"""

from dataclasses import dataclass

__all__ = ["Identity", "IdentityError", "IdentityUnavailable", "InvalidToken"]


class IdentityError(Exception):
    """Base of the errors of identification."""


class InvalidToken(IdentityError):
    """The token is not accepted. The text says why, and holds nothing of the token."""


class IdentityUnavailable(IdentityError):
    """Whether the token is good cannot be known now. `retry_after` is in seconds, None when unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller.

    `roles` are the realm's and the audience's own. `claims_expire_at`: seconds since the epoch. `degraded`: verified
    with the last good keys while Keycloak cannot be reached, so a key or session revoked since is not known of;
    features that matter may be withheld.
    """

    subject: str
    username: str
    roles: frozenset[str]
    claims_expire_at: float
    degraded: bool = False
