"""How a request ended, as it is counted: whether the server could serve it, and if not, whose fault that was.

``ok``; ``refused``: the caller has to mend it (wrong arguments, an unknown conversation, no permission, its own rate or
deadline); ``error``: the server could not serve it; ``cancelled``: the caller did not wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, Literal

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR
from pydantic import ValidationError

__all__ = ["OUTCOMES", "Outcome", "Tally", "unserved"]

Outcome = Literal["ok", "refused", "error", "cancelled"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("ok", "refused", "error", "cancelled")

_SERVERS_FAULT: Final = frozenset({INTERNAL_ERROR, 503})
"""Codes of JSON-RPC errors. 429 and 504 are the caller's own rate and deadline, the others what it asked."""

_current: ContextVar[Tally | None] = ContextVar("request_tally", default=None)


class Tally:
    """The outcome of one request while it is served."""

    def __init__(self) -> None:
        self.unserved = False

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """The tally of what is served meanwhile."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def of_result(self, result: object) -> Outcome:
        """The outcome of a request that has a result."""
        if not _is_error(result):
            return "ok"
        return "error" if self.unserved else "refused"

    def of_failure(self, failure: Exception) -> Outcome:
        """The outcome of a request that ended with this exception."""
        if isinstance(failure, MCPError):
            return "error" if failure.error.code in _SERVERS_FAULT else "refused"
        return "refused" if isinstance(failure, ValidationError) else "error"


def unserved() -> None:
    """Note that the present request could not be served, and that the caller is not to blame."""
    tally = _current.get()
    if tally is not None:
        tally.unserved = True


def _is_error(result: Any) -> bool:
    if isinstance(result, Mapping):
        return bool(result.get("isError"))
    return bool(getattr(result, "is_error", False))
