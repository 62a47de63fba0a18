"""The words of a breaker's machine: its states, an operator's modes, and what a call is let in with."""

from __future__ import annotations

import enum
import math
from typing import Final

__all__ = ["TRANSITIONS", "Admission", "Mode", "State"]

TRANSITIONS: Final = (
    ("closed", "open", "fail_max failures in a row, a rate too high, or a quorum of other processes"),
    ("open", "half_open", "the break is over and a call comes"),
    ("half_open", "closed", "success_threshold probes succeeded"),
    ("half_open", "open", "a probe failed, or was slow"),
)


class State(enum.Enum):
    """Where the automatic machine stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(enum.Enum):
    """Who decides: the machine, or an operator."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


class Admission:
    """The right to make one call (a probe, or a call whose time matters), or any call of one closed period.

    ``period``: the admission of the closed period that a timed call belongs to. ``since``: when it began, where that
    matters. ``until``: the end of a probe's lease.
    """

    __slots__ = ("period", "since", "until")

    def __init__(
        self, period: Admission | None = None, since: float = math.nan, until: float = math.nan
    ) -> None:
        self.period = period
        self.since = since
        self.until = until
