"""Whether somebody may do something.

AuthorizationError
+-- RequestRejected             OpenFGA says that the request is wrong; asking again will not help
+-- AuthorizationUnavailable    a write was not made, or nobody knows; carries retry_after
"""

from dataclasses import dataclass

__all__ = ["AuthorizationError", "AuthorizationUnavailable", "Decision", "RequestRejected"]


class AuthorizationError(Exception):
    """Base of the errors of authorization."""


class RequestRejected(AuthorizationError):
    """The question, or the write, is malformed or does not fit the model. The text says how."""


class AuthorizationUnavailable(AuthorizationError):
    """OpenFGA could not carry out a write. `retry_after` is in seconds, None when unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is allowed.

    `degraded`: OpenFGA was not asked just now; `reason` says what decided instead, `age` how many seconds ago an
    earlier decision was made (None for others). `retry_after`: seconds after which asking again makes sense, None
    when unknown.
    """

    allowed: bool
    degraded: bool = False
    reason: str = "decided by OpenFGA"
    age: float | None = None
    retry_after: float | None = None
