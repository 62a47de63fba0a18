"""The rules of outlier ejection: which values they take."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mcp_server_langgraph.resilience import ConfigurationError
from mcp_server_langgraph.resilience._machines.outlier_rules import OutlierRules

COUNTS = ("consecutive_failures", "min_endpoints", "min_requests", "failure_min_requests")
TIMES = ("interval", "base_ejection", "max_ejection")
SHARES = ("max_share", "panic_share", "success_rate_gap")

REFUSED: list[tuple[tuple[str, ...], tuple[Any, ...], str]] = [
    (COUNTS, (0, 1.5), "at least 1"),
    (TIMES, (0.0, -1.0, math.inf), "above 0 seconds"),
    (SHARES, (-0.1, 1.1), "from 0 to 1"),
    (("stdev_factor",), (0.0,), "above 0"),
    (("failure_share",), (0.0, 1.1), "above 0, at most 1"),
]
TAKEN: list[tuple[tuple[str, ...], tuple[Any, ...]]] = [
    (COUNTS, (1,)),
    (TIMES, (0.5,)),
    (SHARES, (0, 1)),
    (("stdev_factor",), (0.5, None)),
    (("failure_share",), (0.5, 1, None)),
]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [(name, value, allowed) for names, values, allowed in REFUSED for name in names for value in values],
)
def test_rules_out_of_range_are_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        OutlierRules(**{name: value})
    assert str(refusal.value) == f"OutlierRules: {name}={value!r} must be {allowed}"


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for names, values in TAKEN for name in names for value in values]
)
def test_rules_at_the_end_of_their_range_are_taken(name: str, value: Any) -> None:
    assert getattr(OutlierRules(**{name: value}), name) == value
