"""How long to wait before the next attempt. Pure: chance is an argument.

Full, equal and decorrelated jitter: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
Without jitter, clients that failed together come back together.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Jitter = Literal["full", "equal", "decorrelated", "none"]
JITTERS: Final[tuple[str, ...]] = get_args(Jitter)

# Seconds. The dependency's clock and ours differ in grain: a client that waited to the letter came back up to 11 ms
# early, and was refused again (dotnet/extensions #7001).
MARGIN: Final = 0.02
# Whoever was told the same Retry-After would come back at the same instant.
_SPREAD: Final = 0.05


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


def decorrelated(previous: float | None, least: float, wait_max: float, chance: float) -> float:
    """Between ``least`` and three times the wait before (None: ``least``), at most ``wait_max``."""
    most = 3 * (least if previous is None else previous)
    return min(wait_max, least + max(0.0, most - least) * chance)


def not_before(asked: float, longest: float, chance: float) -> float:
    """The wait where the dependency asked for ``asked`` seconds: a little more, at most ``longest``."""
    return min(max(asked, longest), asked * (1 + _SPREAD * chance) + MARGIN) if asked > 0 else 0.0
