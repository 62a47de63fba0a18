"""Orders that cannot be right are refused when a pipeline is built; doubtful ones are warned of, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    ConfigurationError,
    Event,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.retry import Kind


class Named(Policy):
    """A policy of any kind that does nothing: only its place is looked at."""

    def __init__(self, kind: str) -> None:
        self.kind = kind  # type: ignore[misc]

    def settings(self) -> Mapping[str, Any]:
        return {"kind": "idempotent_read"}


def built(*kinds: str) -> Pipeline:
    return Pipeline("x", *(Named(kind) for kind in kinds))


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("retry", "fallback"), "fallback inside retry"),
        (("retry", "cache"), "cache inside retry: its answers would count as successes there"),
        (("circuit_breaker", "cache"), "cache inside circuit_breaker"),
        (("hedge", "cache"), "cache inside hedge"),
        (("retry", "bulkhead", "shed"), "shed inside retry"),
        (("hedge", "throttle"), "throttle inside hedge"),
        (("retry", "retry"), "retries twice"),
        (("hedge", "hedge"), "hedges twice"),
        (("cache", "cache"), "caches twice"),
        (("fallback", "fallback"), "falls back twice"),
    ],
    ids=str,
)
def test_an_order_that_cannot_be_right_is_refused(kinds: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        built(*kinds)


def test_what_must_not_be_repeated_is_not_hedged() -> None:
    with pytest.raises(ConfigurationError, match="it would be done twice"):
        Pipeline("x", Retry(kind=Kind.NON_IDEMPOTENT), Named("hedge"))
    assert Pipeline("x", Retry(kind=Kind.IDEMPOTENT_WRITE), Named("hedge")).name == "x"


@pytest.mark.parametrize(
    ("kinds", "doubt"),
    [
        (("hedge", "retry"), "retry inside hedge: every hedge is retried"),
        (("circuit_breaker", "hedge"), "hedge inside circuit_breaker"),
        (("quota", "retry"), "retry inside quota: later attempts are not counted"),
        (("quota", "hedge"), "hedge inside quota"),
        (("retry", "throttle"), "throttle inside retry"),
        (("chaos", "circuit_breaker"), "circuit_breaker inside chaos"),
    ],
    ids=str,
)
def test_a_doubtful_order_is_kept_and_warned_of(kinds: tuple[str, ...], doubt: str) -> None:
    events: list[Event] = []
    end = subscribe(events.append)
    pipeline = built(*kinds)
    registry.reload({})
    end()
    told = [event.details["problem"] for event in events if event.kind == "warning"]
    assert len(told) == 1
    assert told[0].startswith(doubt)
    assert pipeline.describe()["doubts"] == told


def test_a_window_too_short_for_its_attempts_is_doubted() -> None:
    breaker = CircuitBreaker("x", failure_rate=0.5, window_seconds=10)
    [doubt] = Pipeline("x", Retry(), breaker, Timeout(8)).describe()["doubts"]
    assert doubt.startswith("window_seconds=10 of the breaker < 2 attempt timeouts of 8 s")


def test_the_standard_order_leaves_no_doubts() -> None:
    order = [
        "fallback",
        "shed",
        "cache",
        "bulkhead",
        "throttle",
        "retry",
        "hedge",
        "quota",
        "circuit_breaker",
        "chaos",
    ]
    assert "doubts" not in built(*order).describe()


def test_the_order_of_the_adr_is_no_doubt() -> None:
    assert "doubts" not in Pipeline("x", Named("circuit_breaker"), Retry(), Timeout(5)).describe()


def test_a_doubt_that_settings_bring_is_told_when_they_come_and_again_when_they_come_back() -> None:
    events: list[Event] = []
    pipeline = Pipeline("x", Timeout(10), Retry(), Timeout(1))
    end = subscribe(events.append)
    for attempt in ("20", "20", "1", "20"):
        registry.reload({"X_ATTEMPT_TIMEOUT": attempt})
    end()
    told = [event.details["problem"] for event in events if event.kind == "warning"]
    assert told == ["attempt timeout >= total: 20 s in 10 s"] * 2
    assert pipeline.describe()["doubts"] == told[:1]
