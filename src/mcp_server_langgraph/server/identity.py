"""Who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

__all__ = ["LOCAL", "Caller", "CallerUser", "caller_of"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity of a request. ``degraded`` says that it was verified with limited means."""

    subject: str
    source: str
    degraded: bool = False


LOCAL: Final = Caller("local-dev", "local development identity, not verified")


class CallerUser(AuthenticatedUser):
    """A verified caller, in the form by which the SDK binds its sessions to the credential that made them."""

    def __init__(self, caller: Caller, issuer: str) -> None:
        # The token itself is not kept: nothing behind this point has a use for it.
        super().__init__(
            AccessToken(
                token="", client_id=caller.subject, scopes=[], subject=caller.subject, claims={"iss": issuer}
            )
        )
        self.caller = caller


def caller_of(request: Any) -> Caller:
    """The caller of an HTTP request; the local development identity over stdio and where no identity is asked for."""
    user = request.scope.get("user") if request is not None else None
    return user.caller if isinstance(user, CallerUser) else LOCAL
