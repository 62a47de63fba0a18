"""Whether somebody may do something.

AuthorizationError
+-- RequestRejected              the request is wrong; asking again will not help
|   +-- ModelMismatch            store, model, type or relation is not there: the operator's to mend
+-- AuthorizationUnavailable     a write or listing was not made, or nobody knows; carries retry_after
    +-- ListingIncomplete        OpenFGA's own time for a listing was over; carries what it found until then
    +-- TokenRefused             OpenFGA does not accept this server's token: the operator's to mend
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "AuthorizationError",
    "AuthorizationUnavailable",
    "Decision",
    "ListingIncomplete",
    "ModelMismatch",
    "RequestRejected",
    "TokenRefused",
]


class AuthorizationError(Exception):
    """Base of the errors of authorization."""


class RequestRejected(AuthorizationError):
    """The question, or the write, is malformed or does not fit the model. The text says how."""


class ModelMismatch(RequestRejected):
    """OpenFGA has no such store, model, type or relation. Nobody is allowed anything by what is not there."""


class AuthorizationUnavailable(AuthorizationError):
    """OpenFGA could not carry out a write, or list objects. `retry_after` is in seconds, None when unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ListingIncomplete(AuthorizationUnavailable):
    """OpenFGA took as long as it gives a listing at most, and then leaves out what it has not found yet.

    `objects`: what it did find.
    """

    def __init__(self, message: str, objects: Sequence[str]) -> None:
        super().__init__(message)
        self.objects = tuple(objects)


class TokenRefused(AuthorizationUnavailable):
    """OpenFGA refuses this server itself, whoever asks: its token is wrong, or it has none. Nobody is let in."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is allowed.

    `degraded`: OpenFGA could not be asked just now; `reason` says what decided instead. `age`: how many seconds ago an
    earlier decision was made that is given again (in an outage, or from the cache); None for others. `retry_after`:
    seconds after which asking again makes sense, None when unknown.
    """

    allowed: bool
    degraded: bool = False
    reason: str = "decided by OpenFGA"
    age: float | None = None
    retry_after: float | None = None
