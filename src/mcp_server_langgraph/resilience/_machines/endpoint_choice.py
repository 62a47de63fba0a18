"""Which endpoint of those in rotation a call goes to.

Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator
from typing import TypeAlias

from ..errors import ConfigurationError
from .endpoint import Endpoint

Candidates: TypeAlias = tuple[Endpoint, ...]


class Choice(enum.Enum):
    """How an endpoint is chosen among those in rotation."""

    ROUND_ROBIN = "round_robin"
    LEAST_IN_FLIGHT = "least_in_flight"
    POWER_OF_TWO = "power_of_two"


def choice_of(pick: Choice | str) -> Choice:
    """The choice of that name. Raises `ConfigurationError`."""
    try:
        return Choice(pick)
    except ValueError:
        allowed = ", ".join(each.value for each in Choice)
        raise ConfigurationError(f"Endpoints: pick={pick!r} must be one of {allowed}") from None


def without(candidates: Candidates, avoid: Collection[str]) -> Candidates:
    """Those whose names are not to ``avoid``; where there are none, those without the last name; else all of them."""
    last = list(avoid)[-1]
    return (
        tuple(each for each in candidates if each.name not in avoid)
        or tuple(each for each in candidates if each.name != last)
        or candidates
    )


def chosen(choice: Choice, candidates: Candidates, chance: float, turns: Iterator[int]) -> Endpoint:
    """The candidate that is called. ``chance``: from 0 up to 1; ``turns`` counts the calls that go round."""
    count = len(candidates)
    if choice is Choice.POWER_OF_TWO and count > 1:
        place = chance * count
        first = int(place)
        second = int((place - first) * (count - 1))
        second += second >= first
        one, other = candidates[first], candidates[second]
        return other if len(other.calls) < len(one.calls) else one
    start = next(turns) % count
    if choice is Choice.LEAST_IN_FLIGHT:
        return min(candidates[start:] + candidates[:start], key=lambda each: len(each.calls))
    return candidates[start]
