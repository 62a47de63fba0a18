"""When enough others find a dependency down, that a circuit opens on their word. Pure: ``now`` is an argument.

Each replica has an opinion of a dependency, from its own calls alone: *down* (its own circuit is open: a vote),
*healthy* (its last call succeeded, not long ago), or none (no traffic, or failures that are not enough yet). What it
was told is no opinion, else two that believe each other would stay open for ever.

There is a quorum where the votes are at least ``minimum``, and more than a ``share`` of those who have an opinion, this
replica's own included. So one sick replica opens its own circuit only, whatever the others see, and many idle ones
learn from few that are busy. It holds as long as enough of those votes do.

A vote is one opening of one circuit and ends with it; with its replica's lease it ends sooner. A circuit that closed by
its own probe has *answered* the votes that it knows: only new openings can open it again.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Quorum"]

HEALTHY: Final = -math.inf


class _Opinion:
    """``generation``: the opening that it votes for, 0 where it is healthy. ``until``: the end of that opening."""

    __slots__ = ("generation", "lapses_at", "until")

    def __init__(self, generation: int, until: float, lapses_at: float) -> None:
        self.generation = generation
        self.until = until
        self.lapses_at = lapses_at


class Quorum:
    """What the others say of one circuit. ``minimum``: votes (>= 1). ``share``: of the opinions (0 to below 1).
    ``lease``: seconds that an opinion is good for.
    """

    __slots__ = ("_answered", "_opinions", "lease", "minimum", "share")

    def __init__(self, minimum: int, share: float, lease: float) -> None:
        self.minimum = minimum
        self.share = share
        self.lease = lease
        self._opinions: dict[str, _Opinion] = {}
        self._answered: dict[str, int] = {}

    def votes(self, replica: str, generation: int, left: float, now: float) -> None:
        """Its circuit is open for ``left`` more seconds; ``generation`` (>= 1) counts its openings."""
        known, until = self._opinions.get(replica), now + left
        if known is not None and known.generation == generation:
            until = min(until, known.until)  # told again, a little later each time: it ends no later for that
        self._opinions[replica] = _Opinion(generation, until, now + self.lease)

    def finds_healthy(self, replica: str, now: float) -> None:
        """Its calls succeed."""
        self._opinions[replica] = _Opinion(0, HEALTHY, now + self.lease)

    def has_no_opinion(self, replica: str) -> None:
        """It cannot tell."""
        self._opinions.pop(replica, None)

    def answer(self) -> None:
        """Our own probe has closed the circuit: it knows better than the votes that there are, or were heard last."""
        for replica, opinion in self._opinions.items():
            if opinion.generation:
                self._answered[replica] = opinion.generation

    def left(self, now: float, *, healthy: bool) -> float:
        """Seconds for which enough of them hold; 0: they are too few. ``healthy``: what this replica finds itself."""
        held = [(replica, each) for replica, each in self._opinions.items() if each.lapses_at > now]
        votes = [
            opinion.until - now
            for replica, opinion in held
            if opinion.until > now and self._answered.get(replica) != opinion.generation
        ]
        others = sum(not opinion.generation for _, opinion in held)
        needed = max(self.minimum, math.floor(self.share * (len(votes) + others + healthy)) + 1)
        return sorted(votes, reverse=True)[needed - 1] if len(votes) >= needed else 0.0

    def gone(self, replica: str) -> None:
        """It will not come back under that name."""
        self._opinions.pop(replica, None)
        self._answered.pop(replica, None)
