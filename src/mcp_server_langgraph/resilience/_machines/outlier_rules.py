"""The rules of outlier ejection: when an endpoint is ejected, for how long, and how many may be at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """When an endpoint is ejected and for how long. The defaults are Envoy's and gRPC's but for ``max_share``: their
    tenth is for hundreds of hosts, and takes one of three dead ones out of ten.

    ``consecutive_failures`` (>= 1). ``interval``, ``base_ejection``, ``max_ejection``: seconds (> 0). ``max_share``,
    ``panic_share``: shares of the endpoints (0 to 1). ``stdev_factor``: standard deviations (> 0), None: success
    rates are not compared. ``failure_share``: share of failures that ejects (0 to 1), None: not looked at.
    ``min_endpoints``: as many must have had ``min_requests`` in the interval for the success rate, or
    ``failure_min_requests`` for the share of failures.
    """

    consecutive_failures: int = 5
    interval: float = 10.0
    base_ejection: float = 30.0
    max_ejection: float = 300.0
    max_share: float = 0.3
    panic_share: float = 0.5
    stdev_factor: float | None = 1.9
    success_rate_gap: float = 0.05
    failure_share: float | None = 0.85
    min_endpoints: int = 5
    min_requests: int = 100
    failure_min_requests: int = 50

    def __post_init__(self) -> None:
        for name in ("consecutive_failures", "min_endpoints", "min_requests", "failure_min_requests"):
            _need(
                name, getattr(self, name), lambda value: isinstance(value, int) and value >= 1, "at least 1"
            )
        for name in ("interval", "base_ejection", "max_ejection"):
            _need(name, getattr(self, name), lambda value: 0 < value < math.inf, "above 0 seconds")
        for name in ("max_share", "panic_share", "success_rate_gap"):
            _need(name, getattr(self, name), lambda value: 0 <= value <= 1, "from 0 to 1")
        if self.stdev_factor is not None:
            _need("stdev_factor", self.stdev_factor, lambda value: value > 0, "above 0")
        if self.failure_share is not None:
            _need("failure_share", self.failure_share, lambda value: 0 < value <= 1, "above 0, at most 1")


def _need(name: str, value: float, fits: Callable[[float], bool], allowed: str) -> None:
    if not fits(value):
        raise ConfigurationError(f"OutlierRules: {name}={value!r} must be {allowed}")
