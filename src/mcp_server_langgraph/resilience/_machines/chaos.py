"""When chaos strikes: pure, with ``now`` as an argument and its own seeded chance.

                 on                              max_duration has passed
    ┌─────┐ ──────────────▶ ┌────┐ ─────────────────────────────────────────▶ ┌─────────┐
    │ OFF │                 │ ON │                                            │ EXPIRED │
    └─────┘ ◀────────────── └────┘                                            └─────────┘
       ▲          off                                                              │ off
       └───────────────────────────────────────────────────────────────────────────┘

Every call while it is on draws once, whether a window is open or not: what happens to the n-th call depends on the seed
alone. Expired, it can only be switched off, and then on again.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

TRANSITIONS: Final = (
    ("off", "on", "switched on"),
    ("on", "off", "switched off"),
    ("on", "expired", "max_duration has passed"),
    ("expired", "off", "switched off"),
)


class State(enum.Enum):
    """Whether chaos may strike."""

    OFF = "off"
    ON = "on"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which chaos strikes: from ``start`` to before ``stop``, in seconds since it was switched on; again and
    again with a period of ``every`` seconds (None: once).
    """

    start: float = 0.0
    stop: float = math.inf
    every: float | None = None

    def is_open(self, elapsed: float) -> bool:
        """Whether it is open so many seconds after the beginning."""
        at = elapsed if self.every is None else elapsed % self.every
        return self.start <= at < self.stop


class ChaosMachine:
    """Off, until it is switched on for a while."""

    __slots__ = ("_chance", "_since", "max_duration", "rate", "state", "windows")

    def __init__(
        self,
        rate: float,
        max_duration: float,
        windows: Sequence[Window] = (),
        seed: int | None = None,
    ) -> None:
        self.rate = rate
        self.max_duration = max_duration
        self.windows = tuple(windows)
        self.state = State.OFF
        self._since = 0.0
        self._chance = random.Random(seed)

    def on(self, now: float) -> None:
        """Begin; changes nothing where it has begun, or is expired."""
        if self.state is State.OFF:
            self.state = State.ON
            self._since = now

    def off(self) -> None:
        """End."""
        self.state = State.OFF

    def elapsed(self, now: float) -> float:
        """Seconds since it was switched on. On a clock that is behind that of then, it begins anew: better than a chaos
        without an end.
        """
        self._since = min(self._since, now)
        return now - self._since

    def check(self, now: float) -> bool:
        """Whether it expires now."""
        if self.state is State.ON and self.elapsed(now) >= self.max_duration:
            self.state = State.EXPIRED
            return True
        return False

    def strikes(self, now: float) -> bool:
        """Whether the next call is struck. To be asked once a call, after `check`."""
        if self.state is not State.ON:
            return False
        drawn = self._chance.random() < self.rate
        elapsed = self.elapsed(now)
        return drawn and (not self.windows or any(window.is_open(elapsed) for window in self.windows))
