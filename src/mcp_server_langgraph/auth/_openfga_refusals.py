"""What OpenFGA's refusals mean: the caller's words, our model, our token, or nobody's fault.

A relation that the model does not have is answered with 400 "validation_error", as nonsense in a caller's id is. The
two are told apart by the message, and only by names of relations and types that we ourselves asked for: what a caller
can write into an id (`user:a#b` is refused as "relation 'user#b' not found") does not make it look as if the model
were broken.
"""

from collections.abc import Iterable
from typing import Any, Final

import httpx2

from mcp_server_langgraph.auth._http import without_token
from mcp_server_langgraph.auth._openfga_questions import Question, RelationTuple
from mcp_server_langgraph.auth.authorization import (
    AuthorizationError,
    AuthorizationUnavailable,
    ModelMismatch,
    RequestRejected,
    TokenRefused,
)
from mcp_server_langgraph.resilience import Rejected, classify

__all__ = ["names_no_such", "refusal", "rejected", "token_refused", "told_as_ours"]

_LONGEST: Final = 300
_REFUSES_US: Final = frozenset({401, 403})
# Wherever they come from: 400, or 404 for the store's own record (seen with OpenFGA 1.22).
_MISSING: Final = frozenset(
    {
        "store_id_not_found",
        "authorization_model_not_found",
        "latest_authorization_model_not_found",
        "type_not_found",
        "relation_not_found",
    }
)
# The same in streams, which have gRPC's number for a code.
_MISSING_SAID: Final = ("Store ID not found", "No authorization models found", "Authorization Model '")
# What is no ULID never reaches the store: validation_error, "invalid CheckRequest.StoreId: value does not match ...".
_MALFORMED_SETTINGS: Final = ("Request.StoreId:", "Request.AuthorizationModelId:")


def refusal(error: httpx2.HTTPStatusError) -> str:
    """What OpenFGA says is wrong with a request."""
    code, message = _said(error)
    if not code:
        return f"status {error.response.status_code}"
    return without_token(f"{code}: {message}", error.request)[:_LONGEST]


def token_refused(error: httpx2.HTTPStatusError) -> TokenRefused | None:
    """The error where it is this server that is refused, by OpenFGA or what stands before it; None elsewhere.

    It does not quote them: what is wrong is known, and whoever judges a token may well repeat it.
    """
    status = error.response.status_code
    if status not in _REFUSES_US:
        return None
    if "authorization" in error.request.headers:
        return TokenRefused(
            f"OpenFGA refuses this server's own token, not the caller's (status {status}): "
            "OPENFGA_API_TOKEN must be a key that it accepts"
        )
    return TokenRefused(
        f"OpenFGA refuses this server, not the caller (status {status}): it has no token; set OPENFGA_API_TOKEN"
    )


def rejected(error: httpx2.HTTPStatusError, asked: Iterable[Question | RelationTuple]) -> RequestRejected:
    """A refusal as an error of ours."""
    code, message = _said(error)
    ours = code in _MISSING or message.startswith(_MISSING_SAID)
    ours = ours or any(sign in message for sign in _MALFORMED_SETTINGS)
    kind = ModelMismatch if ours or names_no_such(message, asked) else RequestRejected
    return kind(refusal(error))


def names_no_such(message: str, asked: Iterable[Question | RelationTuple]) -> bool:
    """Whether OpenFGA misses a relation or a type that was asked for."""
    for one in asked:
        kind, user_type = one.object.partition(":")[0], one.user.partition(":")[0]
        missing = (f"relation '{kind}#{one.relation}'", f"type '{kind}'", f"type '{user_type}'")
        if any(message.endswith(f"{name} not found") for name in missing):
            return True
    return False


def told_as_ours(
    error: Exception, what: str, asked: Iterable[Question | RelationTuple]
) -> AuthorizationError | None:
    """The error that a write or listing raises instead of this one; None where this one is to pass.

    Bugs pass, and so does whatever the layer does not take for unavailability.
    """
    if isinstance(error, httpx2.HTTPStatusError):
        if refused := token_refused(error):
            return refused
        if error.response.status_code == 400 or _said(error)[0] in _MISSING:
            return rejected(error, asked)
        return AuthorizationUnavailable(f"{what}: {refusal(error)}", classify(error).retry_after)
    verdict = classify(error)
    if isinstance(error, Rejected):
        return AuthorizationUnavailable(f"{what}: {error}", error.retry_after)
    if verdict.unavailable:
        return AuthorizationUnavailable(f"{what}: {type(error).__name__}", verdict.retry_after)
    return None


def _said(error: httpx2.HTTPStatusError) -> tuple[str, str]:
    try:
        body: Any = error.response.json()
        # Streams have their refusals one level deeper, with gRPC's number for a code.
        body = body.get("error", body)
        return str(body["code"]), str(body["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""
