"""How much a call matters, for whoever has to refuse some: a bulkhead, a limit, the server at its door.

Four levels, as Google's services carry them with each request (B. Beyer et al., "Site Reliability Engineering",
ch. 21, "Criticality"). The level is inherited through the context, child tasks too; `propagation` takes it across
threads and processes.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["Criticality", "criticality", "current_criticality"]


class Criticality(enum.IntEnum):
    """The more it matters the larger. ``SHEDDABLE`` goes first, ``CRITICAL_PLUS`` last."""

    SHEDDABLE = 0
    SHEDDABLE_PLUS = 1
    CRITICAL = 2
    CRITICAL_PLUS = 3


CRITICALITY: Final[ContextVar[Criticality]] = ContextVar(
    "resilience_criticality", default=Criticality.CRITICAL
)


def current_criticality() -> Criticality:
    """The level of the code running now; ``CRITICAL`` where nobody set one."""
    return CRITICALITY.get()


@contextmanager
def criticality(level: Criticality) -> Generator[None]:
    """Everything inside the block has that level: ``with criticality(Criticality.SHEDDABLE): ...``."""
    reset = CRITICALITY.set(Criticality(level))
    try:
        yield
    finally:
        CRITICALITY.reset(reset)
