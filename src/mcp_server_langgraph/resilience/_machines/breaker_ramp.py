"""Slow start after a breaker closed: only a growing share of the calls is let in. Pure.

One good probe says that the dependency answers one call, not that it stands the crowd that has been waiting. The share
grows in a straight line, from an eighth at once (Envoy's slow start begins with a tenth) to all after ``seconds``.

Who is let in is not left to chance: each call adds the share to a credit, and a whole credit is one call (error
diffusion). So of any number of calls in a row exactly their share comes in.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Ramp"]

LEAST_SHARE: Final = 0.125

# Its multiples, taken modulo 1, fill the unit interval evenly however many there are (Kronecker's sequence).
_GOLDEN: Final = 0.6180339887498949


class Ramp:
    """One slow start."""

    __slots__ = ("_credit", "began", "refused", "seconds")

    def __init__(self, began: float, seconds: float) -> None:
        self.began = began
        self.seconds = seconds
        self.refused = 0
        self._credit = 1 - LEAST_SHARE  # the first call is let in

    def changed(self, seconds: float) -> Ramp | None:
        """The same with another length; None where there is none."""
        self.seconds = seconds
        return self if seconds else None

    def is_over(self, now: float) -> bool:
        """Whether everybody is let in."""
        return now - self.began >= self.seconds

    def share(self, now: float) -> float:
        """The share that is let in now."""
        return max(LEAST_SHARE, min(1.0, (now - self.began) / self.seconds))

    def admits(self, now: float) -> bool:
        """Whether the call that comes now is let in."""
        self._credit += self.share(now)
        if self._credit < 1:
            self.refused += 1
            return False
        self._credit -= 1
        return True

    def retry_after(self, now: float) -> float:
        """Seconds after which the one refused last may come again: spread over what is left, not all at its end."""
        return (self.began + self.seconds - now) * (1 - self.refused * _GOLDEN % 1)
