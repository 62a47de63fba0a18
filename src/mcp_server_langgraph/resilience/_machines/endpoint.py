"""One of several equal endpoints, and the right to make a call to it."""

from __future__ import annotations

import math


class Endpoint:
    """One of them, with what was counted in the present interval."""

    __slots__ = (
        *("bad", "calls", "ejected_until", "ejections", "failures", "good", "healthy"),
        *("multiplier", "name", "returned_at", "turn"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.healthy = True
        self.ejected_until: float | None = None
        self.returned_at = -math.inf
        self.multiplier = 0
        self.ejections: dict[str, int] = {}
        self.calls: list[None] = []  # a mark for each call in flight: append and pop are atomic
        self.new_period()

    @property
    def out(self) -> bool:
        """Whether it is out of rotation, save in a panic."""
        return self.ejected_until is not None or not self.healthy

    def new_period(self) -> None:
        """Count from zero; results of calls that are under way say nothing any more."""
        self.turn = Turn(self)
        self.new_interval()
        self.failures = 0

    def new_interval(self) -> None:
        """Count the calls of an interval from zero."""
        self.good = 0
        self.bad = 0


class Turn:
    """The right to make a call to an endpoint, shared by all calls of one period; each ends it once."""

    __slots__ = ("endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.endpoint.name
