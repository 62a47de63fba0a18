"""When a process that died may be started again: at once, then after waits that double while it keeps dying."""

from __future__ import annotations

from typing import Final

__all__ = ["Restarts"]

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0
STEADY: Final = 60.0
"""Seconds; a process that lived so long died of something new."""


class Restarts:
    """Counts deaths in a row. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._deaths = 0
        self._started_at = float("-inf")
        self._not_before = float("-inf")

    def started(self, now: float) -> None:
        """It runs."""
        self._started_at = now

    def ended(self, now: float, well_until: float | None = None) -> None:
        """It died, or could not be started. ``well_until``: how long it was of use; None: to its end."""
        if (now if well_until is None else well_until) - self._started_at >= STEADY:
            self._deaths = 0
        self._started_at = float("inf")
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (self._deaths - 1)) if self._deaths else 0.0
        self._not_before = now + wait
        self._deaths += 1

    def wait(self, now: float) -> float:
        """Seconds until it may be started; 0 or less where it may be now."""
        return self._not_before - now
