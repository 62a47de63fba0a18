"""How long to wait before the next attempt. Pure: chance is an argument.

Full and equal jitter: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015. Without jitter,
clients that failed together come back together.
"""

from __future__ import annotations

from typing import Literal

Jitter = Literal["full", "equal", "none"]


def exponential(attempt: int, multiplier: float, base: float, wait_max: float) -> float:
    """Seconds after attempt number ``attempt`` (from 1): multiplier * base ** (attempt - 1), at most ``wait_max``."""
    try:
        return min(wait_max, multiplier * base ** (attempt - 1))
    except OverflowError:
        return wait_max if multiplier else 0.0


def jittered(seconds: float, jitter: Jitter, chance: float) -> float:
    """Spread a wait. ``chance`` is in [0, 1): full gives [0, seconds), equal [seconds / 2, seconds)."""
    if jitter == "full":
        return seconds * chance
    if jitter == "equal":
        return seconds * (0.5 + chance / 2)
    return seconds
