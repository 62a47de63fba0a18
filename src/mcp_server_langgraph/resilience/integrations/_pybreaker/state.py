"""What a breaker is to make of the state that others share. Pure.

pybreaker shares four values: the state, when the circuit opened last (whole seconds; only ever later), failures in a
row, and good trial calls. Every process has its own copy of the state and looks at the shared one before each call.
Ours is looked at in the background, so there are two questions more: which of two states is the newer one, and has what
we wrote arrived at all. The time of the last opening answers both: it stays when the circuit closes.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "Mine", "Move", "Shared", "move"]

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"


class Move(enum.Enum):
    """What the breaker is to do."""

    NOTHING = "nothing"
    OPEN = "open"
    PROBE = "probe"
    CLOSE = "close"
    TELL_AGAIN = "tell_again"


@dataclass(frozen=True, slots=True)
class Shared:
    """What the storage said. ``opened_at``: None where it never opened, or where that was lost."""

    state: str
    opened_at: datetime | None

    def open_for(self, wall: datetime) -> float:
        """Seconds since it opened; 0 where it is not known, or a clock is wrong."""
        return 0.0 if self.opened_at is None else max(0.0, (wall - _aware(self.opened_at)).total_seconds())


@dataclass(frozen=True, slots=True)
class Mine:
    """Our breaker at one moment. ``generation`` is another after every transition; ``failed`` and ``succeeded`` count
    for ever, ``in_a_row`` failures since the last success. ``opened_at``: of the break that is on. ``automatic``: no
    operator holds it.
    """

    generation: int
    state: str
    opened_at: datetime | None
    in_a_row: int
    failed: int
    succeeded: int
    fail_max: int
    automatic: bool = True


def move(mine: Mine, shared: Shared) -> Move:
    """What our breaker is to do about what the storage says."""
    if mine.state == CLOSED:
        return {OPEN: Move.OPEN, HALF_OPEN: Move.PROBE}.get(shared.state, Move.NOTHING)
    if shared.state != CLOSED:
        return Move.NOTHING
    # They say closed. If they have seen this opening, somebody has closed it since; if not, they are to be told.
    return Move.CLOSE if _seconds(shared.opened_at) >= _seconds(mine.opened_at) else Move.TELL_AGAIN


def _seconds(moment: datetime | None) -> float:
    return -math.inf if moment is None else math.floor(_aware(moment).timestamp())


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
