"""What a breaker goes by, as one value: what opens it, for how long, and how it closes again.

The break grows where the dependency stays down, spread by chance so that many replicas do not come back as one
(Envoy's and Finagle's growing ejections; M. Brooker, "Exponential Backoff and Jitter", 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from .backoff import exponential
from .window import CountWindow, TimeWindow, Window

__all__ = ["BreakerRules"]

# Seconds. A dependency that says "come back in an hour" is believed this far: one absurd header must not close the
# door for a day, and a probe every five minutes is no load.
RETRY_AFTER_BELIEVED: Final = 300.0


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """The settings of a breaker. `CircuitBreaker` tells what each means."""

    fail_max: int = 5
    failure_rate: float | None = None
    slow_rate: float | None = None
    slow_after: float = math.inf
    window: int = 100
    window_seconds: float | None = None
    minimum_calls: int = 20
    timeout: float = 60.0
    backoff: float = 2.0
    timeout_max: float = 60.0
    jitter: float = 0.5
    half_open_max: int = 1
    success_threshold: int = 1
    lease: float = 60.0
    ramp: float = 0.0

    # What follows from them, worked out once: it is asked for at every call.
    timed: bool = field(init=False)  # whether the time of calls matters
    measured: bool = field(init=False)  # whether there is a window
    failure_limit: float = field(init=False)
    enough_calls: int = field(
        init=False
    )  # from which on a rate says something; a smaller window must be full

    def __post_init__(self) -> None:
        least = (
            self.minimum_calls if self.window_seconds is not None else min(self.minimum_calls, self.window)
        )
        derive = object.__setattr__
        derive(self, "timed", self.slow_rate is not None)
        derive(self, "measured", self.slow_rate is not None or self.failure_rate is not None)
        derive(self, "failure_limit", math.inf if self.failure_rate is None else self.failure_rate)
        derive(self, "enough_calls", least)

    def new_window(self) -> Window:
        """An empty one."""
        return CountWindow(self.window) if self.window_seconds is None else TimeWindow(self.window_seconds)

    def same_window(self, other: BreakerRules) -> bool:
        """Whether a window of those rules serves these as well."""
        if self.window_seconds is None and other.window_seconds is None:
            return self.window == other.window
        return self.window_seconds == other.window_seconds

    def break_for(self, reopenings: int, chance: float) -> float:
        """Seconds that a break lasts after so many breaks in a row before it. ``chance`` is in [0, 1).

        The first lasts ``timeout`` exactly. Later ones are longer, never more than ``timeout_max`` (or ``timeout``,
        where that is more), and up to a share of ``jitter`` shorter by chance, never less than ``timeout``.
        """
        if not reopenings:
            return self.timeout
        longest = max(self.timeout, self.timeout_max)
        grown = exponential(reopenings + 1, self.timeout, self.backoff, longest)
        return max(self.timeout, grown * (1 - self.jitter + self.jitter * chance))

    def believed(self, retry_after: float) -> float:
        """Seconds of a Retry-After that are honoured."""
        return min(retry_after, max(RETRY_AFTER_BELIEVED, self.timeout_max))
