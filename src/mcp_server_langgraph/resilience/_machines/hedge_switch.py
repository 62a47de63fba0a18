"""Whether hedging pays: it is switched off for a while when hedges do not win.

A hedge that wins was worth its cost. Where almost none does, both copies are slow for the same reason (the dependency
is overloaded, or that answer takes long), and a second copy only adds to it. After a rest hedging is tried again, and
judged by new hedges alone. Each hedge carries the generation in which it began: what ends after a switch has no say.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["OFF", "ON", "TRANSITIONS", "HedgeSwitch"]

ON: Final = "on"
OFF: Final = "off"

# From, to, why.
TRANSITIONS: Final = (
    (ON, OFF, "fewer than 5 % of the recent hedges won"),
    (OFF, ON, "the rest is over"),
)

# A hedge costs one request; one that wins in twenty is not worth the other nineteen.
LEAST_SHARE: Final = 0.05
# Below so many hedges the share says nothing: even where one in five wins, none in 20 does once in a hundred times.
ENOUGH: Final = 20
# How many of the last hedges are looked at.
RECENT: Final = 100
# Seconds until hedging is tried again.
REST: Final = 30.0


class HedgeSwitch:
    """On, or off until the rest is over."""

    __slots__ = ("_recent", "_until", "_wins", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._wins = 0
        self._until: float | None = None

    def state(self, now: float) -> str:
        """On or off; after the rest it is on again, though no hedge has begun yet."""
        return OFF if self._until is not None and now < self._until else ON

    def begin(self, now: float) -> int | None:
        """Begin a hedge: the generation it belongs to; None while hedging is off."""
        if self._until is not None:
            if now < self._until:
                return None
            self._until = None
            self.generation += 1
        return self.generation

    def ended(self, generation: int, won: bool, now: float) -> bool:
        """A hedge of ``generation`` won or lost. True where that switched hedging off."""
        if generation != self.generation or self._until is not None:
            return False
        if len(self._recent) == RECENT:
            self._wins -= self._recent[0]
        self._recent.append(won)
        self._wins += won
        if len(self._recent) < ENOUGH or self._wins >= LEAST_SHARE * len(self._recent):
            return False
        self._until = now + REST
        self._recent.clear()
        self._wins = 0
        return True
