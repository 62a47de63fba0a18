"""Who calls.

IdentityError
+-- InvalidToken           the caller's fault; a new token may help (HTTP 401)
|   +-- InvalidGrant       a refresh or subject token that is not accepted any more; a new login may help
+-- ClientRefused          this server's fault: its client id, its secret, or what they are allowed
+-- IdentityUnavailable    nobody's answer yet: Keycloak cannot be asked now; carries retry_after (HTTP 503)
"""

from dataclasses import dataclass

__all__ = [
    "ClientRefused",
    "Identity",
    "IdentityError",
    "IdentityUnavailable",
    "InvalidGrant",
    "InvalidToken",
]


class IdentityError(Exception):
    """Base of the errors of identification."""


class InvalidToken(IdentityError):
    """The token is not accepted. The text says why, and holds nothing of the token."""


class InvalidGrant(InvalidToken):
    """The refresh or subject token is expired, used up, revoked or another client's."""


class ClientRefused(IdentityError):
    """Keycloak refuses what this server asks for itself. The text holds Keycloak's error code."""


class IdentityUnavailable(IdentityError):
    """Whether the token is good cannot be known now. `retry_after` is in seconds, None when unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified caller.

    `roles` are the realm's and the audience's own. `claims_expire_at`: seconds since the epoch. `degraded`: verified
    while Keycloak could not be asked, so a key, session or token revoked since is not known of; features that matter
    are withheld.
    """

    subject: str
    username: str
    roles: frozenset[str]
    claims_expire_at: float
    degraded: bool = False
