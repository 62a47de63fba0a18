"""What one call has been through: its frame keeps it from the first failure on, so nothing of it is on a policy."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import Final

from .propagation import ATTEMPT

# What a policy inside remembers of the attempt that failed last, for the next one; forgotten when the call is over.
REMEMBERED: Final[ContextVar[object]] = ContextVar("resilience_remembered", default=None)


class Past:
    """The failed attempts of one call.

    ``last`` is the last error that said something about the dependency, ``wait`` the last wait of our own choice (what
    decorrelated jitter goes on from), ``counts`` how many attempts failed in the way of each limit, ``since`` when the
    attempt began that is on, or was last.
    """

    __slots__ = ("_reset", "counts", "last", "since", "wait")

    def __init__(self, since: float) -> None:
        self.since = since
        self.last: Exception | None = None
        self.wait: float | None = None
        self.counts: dict[int, int] = {}
        self._reset: Token[int] | None = None

    def begin(self, attempt: int) -> None:
        """The next attempt has this number, for whoever runs inside it (`propagation.current_attempt`)."""
        token = ATTEMPT.set(attempt)
        if self._reset is None:
            self._reset = token

    def end(self) -> None:
        """The call is over: the number is again what it was before."""
        self.last = None  # it may keep the frame that keeps this
        if REMEMBERED.get() is not None:
            REMEMBERED.set(None)
        token, self._reset = self._reset, None
        if token is not None:
            # An abandoned coroutine is closed in a foreign context: there is nothing to set back.
            with contextlib.suppress(ValueError):
                ATTEMPT.reset(token)
