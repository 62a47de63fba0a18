"""The cooldown's machine: until when a dependency wants to be left alone, and when those who waited come back.

Only ever extended: a later and shorter wish changes nothing (LiteLLM #40130 lets it). Where the dependency does not say
how long, the time doubles with each refusal of a call that began after the last one was known; those that were under
way together count once. Those who wait come back spread over a share of the time, not all at once.
"""

from __future__ import annotations

import math
from typing import Final

TRANSITIONS: Final = (
    ("idle", "cooling", "a call was told to wait, or refused as one too many"),
    ("cooling", "cooling", "another one was told to wait for longer"),
    ("cooling", "returning", "the time has passed"),
    ("returning", "cooling", "a call was refused again"),
    ("returning", "idle", "the share of it over which calls come back has passed too"),
)

GROWTH: Final = 2.0


class CooldownMachine:
    """``first``: seconds where nobody said how many (0: none), doubling up to ``longest``. ``jitter``: the share of the
    time over which those who waited come back.
    """

    __slots__ = ("first", "jitter", "length", "longest", "own_until", "since", "strikes", "until")

    def __init__(self, first: float = 1.0, longest: float = 60.0, jitter: float = 0.1) -> None:
        self.first = first
        self.longest = longest
        self.jitter = jitter
        self.until = self.since = -math.inf
        self.own_until = -math.inf  # as our own calls were told, without what others heard
        self.length = 0.0
        self.strikes = 0

    def state(self, now: float) -> str:
        """idle, cooling or returning."""
        if now < self.until:
            return "cooling"
        return "returning" if now < self.returned_at(1.0) else "idle"

    def left(self, now: float) -> float:
        """Seconds for which it is left alone; 0: none."""
        return max(0.0, self.until - now)

    def returned_at(self, chance: float) -> float:
        """When a call that draws ``chance`` (0 to 1) of the spread comes back."""
        return self.until + chance * self.jitter * self.length

    def refused(self, began: float, now: float, asked: float | None) -> bool:
        """A call that began at ``began`` was told to wait ``asked`` seconds; None: it was refused, and not told for how
        long. True where the time is longer for it.
        """
        if asked is None:
            if began < self.since:
                return False
            asked = min(self.longest, self.first * GROWTH**self.strikes)
            if asked < self.longest:
                self.strikes += 1
        if asked <= 0 or now + asked <= self.until:
            return False
        self.until = self.own_until = now + asked
        self.since = now
        self.length = asked
        return True

    def told(self, now: float, seconds: float) -> bool:
        """Somebody else was told to wait, for so long from now. True where the time is longer for it."""
        if seconds <= 0 or now + seconds <= self.until:
            return False
        self.until = now + seconds
        self.length = seconds
        return True

    def succeeded(self, began: float) -> None:
        """A call that began at ``began`` was served: the next time without a number is the first again."""
        if began >= self.until:
            self.strikes = 0
