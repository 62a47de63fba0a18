"""Orders that cannot be right are refused when a pipeline is built; doubtful ones are warned of, once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Cache,
    CircuitBreaker,
    ConfigurationError,
    Event,
    Hedge,
    Keyed,
    Outlier,
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
        return {"kind": "idempotent_read", "seconds": 1}


def built(*kinds: str) -> Pipeline:
    return Pipeline("x", *(Named(kind) for kind in kinds))


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("retry", "fallback"), "fallback inside retry"),
        (("retry", "cache"), "cache inside retry: its answers would count as successes there"),
        (("circuit_breaker", "cache"), "cache inside circuit_breaker"),
        (("hedge", "cache"), "cache inside hedge"),
        (("outlier", "cache"), "cache inside outlier: its answers would count as successes of an endpoint"),
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
        (("outlier", "retry"), "retry inside outlier: every attempt goes to the endpoint that failed"),
        (("outlier", "hedge"), "hedge inside outlier: every hedge goes to the endpoint that is late"),
        (("retry", "timeout", "circuit_breaker"), "circuit_breaker inside an attempt timeout"),
        (("retry", "timeout", "outlier"), "outlier inside an attempt timeout"),
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


@pytest.mark.parametrize(
    "kinds",
    [
        ("timeout", "retry", "circuit_breaker"),
        ("timeout", "circuit_breaker"),
        ("retry", "circuit_breaker", "timeout"),
        ("retry", "hedge", "outlier", "circuit_breaker", "timeout"),
        ("retry", "timeout", "circuit_breaker", "timeout"),
    ],
    ids=str,
)
def test_where_a_timeout_is_total_or_inside_no_judge_is_doubted(kinds: tuple[str, ...]) -> None:
    assert not [doubt for doubt in built(*kinds).describe().get("doubts", ()) if "inside" in doubt]


async def test_a_breaker_inside_an_attempt_timeout_does_not_see_what_that_cuts() -> None:
    """Why it is doubted."""
    seen = []
    for order in (lambda a, b: (a, b), lambda a, b: (b, a)):
        breaker = CircuitBreaker("x")
        pipeline = Pipeline("x", Retry(2), *order(Timeout(1), breaker))
        await pipeline.try_call(asyncio.sleep, 9)
        seen.append((breaker.snapshot().failures, len(pipeline.describe().get("doubts", ()))))
    assert seen == [({}, 1), ({"TimedOut": 2}, 0)]


def keyed(make: Callable[[object], Policy]) -> Keyed:
    return Keyed(make, key=lambda: "k")


def test_policies_of_single_keys_are_judged_as_what_they_are() -> None:
    with pytest.raises(ConfigurationError, match="cache inside retry"):
        Pipeline("x", Retry(), keyed(lambda _: Cache()))
    with pytest.raises(ConfigurationError, match="cache inside circuit_breaker"):
        Pipeline("x", keyed(lambda _: CircuitBreaker()), Cache())
    with pytest.raises(ConfigurationError, match="hedges twice"):
        Pipeline("x", Hedge(), keyed(lambda _: Hedge()))
    with pytest.raises(ConfigurationError, match="it would be done twice"):
        Pipeline("x", Retry(kind=Kind.NON_IDEMPOTENT), keyed(lambda _: Hedge()))
    doubted = Pipeline("x", Outlier(["a", "b"]), keyed(lambda _: Hedge())).describe()["doubts"]
    assert [doubt.split(":")[0] for doubt in doubted] == ["hedge inside outlier"]
    assert "doubts" not in Pipeline("x", Retry(), keyed(lambda _: CircuitBreaker()), Timeout(1)).describe()


def test_the_same_policy_twice_is_refused() -> None:
    breaker = CircuitBreaker("x")
    with pytest.raises(ConfigurationError, match="'x' holds the same policy object twice"):
        Pipeline("x", breaker, Retry(), breaker)


def test_an_attempt_that_may_take_as_long_as_all_is_doubted() -> None:
    assert Pipeline("x", Timeout(3), Retry(), Timeout(3)).describe()["doubts"] == [
        "attempt timeout >= total: 3 s in 3 s"
    ]


def test_a_window_too_short_for_its_attempts_is_doubted() -> None:
    breaker = CircuitBreaker("x", failure_rate=0.5, window_seconds=10)
    [doubt] = Pipeline("x", Timeout(60), Retry(), breaker, Timeout(8)).describe()["doubts"]
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
