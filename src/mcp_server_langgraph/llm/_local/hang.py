"""Whether a child process that gives no answer is hung, or only slow.

Time alone does not tell: on a machine that does much else, a question of a few hundred words was read for 50 s. But
who works on an answer uses processor time however long it takes, and who is stopped or deadlocked uses none. So a
caller that left unanswered is a reason to ask the child something only where the child did no work while it waited; and
it is hung where it then neither answers nor works. Both, because the child may have been frozen together with its
parent (a paused container), and because one that has nothing to do does not work either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["MIN_SILENCE", "WORKING", "Hang", "Moment"]

MIN_SILENCE: Final = 1.0
"""Seconds; who leaves sooner has waited for nothing that could be told from a turn of the scheduler."""

WORKING: Final = 0.005
"""The share of a processor from which a child works. One whose computing thread was stopped used a hundredth of that;
one that is given less is so slow that a new one, which takes a second of a processor to start, would not start either.
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """``at``: seconds of any one clock. ``worked``: seconds of processor time that the child had used by then, None
    where that cannot be known.
    """

    at: float
    worked: float | None


class Hang:
    """What is known of one child, which was well when it was ``started``."""

    def __init__(self, started: float) -> None:
        self.well_at = started
        """When it last gave something."""
        self.suspected = False
        """Whether it is to be asked something before anybody waits for it again."""

    def answered(self, now: float) -> None:
        """It gave a piece of an answer, to whomever."""
        self.well_at = now
        self.suspected = False

    def given_up(self, since: Moment, until: Moment) -> None:
        """A caller left that had waited, and was given nothing."""
        if until.at - since.at >= MIN_SILENCE and self._idle(since, until):
            self.suspected = True

    def unanswered(self, since: Moment, until: Moment) -> bool:
        """It did not answer the question. Whether it is hung; where it is not, it is not suspected any more."""
        self.suspected = self._idle(since, until)
        return self.suspected

    def _idle(self, since: Moment, until: Moment) -> bool:
        if self.well_at > since.at:
            return False
        if since.worked is None or until.worked is None:
            return True
        return until.worked - since.worked < WORKING * (until.at - since.at)
