"""What a call carries with it, beside its arguments."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

__all__ = ["current_attempt"]

# Set by a retry from the second attempt on, and only for as long as that attempt runs.
ATTEMPT: Final[ContextVar[int]] = ContextVar("resilience_attempt", default=1)


def current_attempt() -> int:
    """The number of the attempt that the code running now belongs to; 1 where nothing was retried."""
    return ATTEMPT.get()
