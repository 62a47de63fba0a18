"""What a breaker is set to: variables and arguments, reloads that keep what was measured, and doubts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, ConfigurationError, Event, Pipeline, registry
from tests.support.breaker_calls import call


def test_every_setting_has_a_variable_and_a_service_may_have_its_own() -> None:
    breaker = CircuitBreaker("svc", window=7)
    pipeline = Pipeline("svc", breaker)
    registry.reload(
        {
            "CIRCUIT_BREAKER_FAILURE_RATE": "0.4",
            "CIRCUIT_BREAKER_SLOW_RATE": "0.6",
            "CIRCUIT_BREAKER_SLOW_AFTER": "3",
            "SVC_CIRCUIT_BREAKER_SLOW_AFTER": "2",
            "CIRCUIT_BREAKER_WINDOW_SECONDS": "30",
            "CIRCUIT_BREAKER_MINIMUM_CALLS": "11",
            "CIRCUIT_BREAKER_TIMEOUT_MAX": "300",
            "CIRCUIT_BREAKER_BACKOFF": "3",
            "CIRCUIT_BREAKER_RAMP": "9",
            "CIRCUIT_BREAKER_HALF_OPEN_MAX": "2",
            "CIRCUIT_BREAKER_SUCCESS_THRESHOLD": "4",
            "CIRCUIT_BREAKER_FAIL_MAX": "0",
        }
    )
    assert breaker.settings() == {
        "name": "svc",
        "fail_max": 0,
        "timeout": 60.0,
        "backoff": 3.0,
        "timeout_max": 300.0,
        "half_open_max": 2,
        "success_threshold": 4,
        "failure_rate": 0.4,
        "slow_rate": 0.6,
        "slow_after": 2.0,
        "window": 7,
        "minimum_calls": 11,
        "ramp": 9.0,
    }
    registry.reload({"SVC_CIRCUIT_BREAKER_WINDOW_SECONDS": "20", "CIRCUIT_BREAKER_FAILURE_RATE": "0.4"})
    assert breaker.machine.rules.window_seconds == 20.0, "the operator's word beats the code's"
    assert pipeline.name == "svc"


@pytest.mark.parametrize(
    ("environ", "code", "window_seconds"),
    [
        ({"CIRCUIT_BREAKER_WINDOW_SECONDS": "30"}, {}, 30.0),
        ({"CIRCUIT_BREAKER_WINDOW_SECONDS": "30"}, {"window": 5}, None),
        ({"SVC_CIRCUIT_BREAKER_WINDOW": "5"}, {"window_seconds": 3}, None),
        ({"CIRCUIT_BREAKER_WINDOW": "5"}, {"window_seconds": 3}, 3),
    ],
)
def test_of_two_kinds_of_window_the_one_asked_for_more_closely_holds(
    environ: dict[str, str], code: dict[str, Any], window_seconds: float | None
) -> None:
    pipeline = Pipeline("svc", CircuitBreaker("svc", failure_rate=0.5, **code))
    registry.reload(environ)
    (breaker,) = registry.breakers().values()
    assert breaker.machine.rules.window_seconds == window_seconds
    assert pipeline.name == "svc"


async def test_a_reload_keeps_what_was_measured_where_the_window_stays_as_long() -> None:
    breaker = CircuitBreaker("svc", failure_rate=0.9, slow_rate=1.0, slow_after=2)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    running = asyncio.ensure_future(pipeline.call(asyncio.sleep, 9))
    await asyncio.sleep(3)
    await call(pipeline, TypeError("neutral, but the running one is seen to be slow"))
    assert breaker.snapshot().slow_rate == 0.5
    registry.reload({"CIRCUIT_BREAKER_MINIMUM_CALLS": "50"})
    assert (breaker.snapshot().measured_calls, breaker.snapshot().running) == (1, 1)
    registry.reload({"CIRCUIT_BREAKER_WINDOW": "50"})
    assert (breaker.snapshot().measured_calls, breaker.snapshot().running) == (0, 1)
    await running
    assert (breaker.snapshot().measured_calls, breaker.snapshot().slow_rate) == (1, 1.0)


def test_a_reload_that_contradicts_the_code_changes_nothing_and_says_so(events: list[Event]) -> None:
    breaker = CircuitBreaker("svc")
    pipeline = Pipeline("svc", breaker)
    with pytest.raises(ConfigurationError, match="needs slow_after"):
        registry.reload({"CIRCUIT_BREAKER_SLOW_RATE": "0.5", "CIRCUIT_BREAKER_FAIL_MAX": "9"})
    assert (breaker.machine.rules.fail_max, breaker.machine.rules.slow_rate) == (5, None)
    assert [event.details["problem"] for event in events] == ["reload refused"]
    assert pipeline.name == "svc"


def test_a_listener_that_comes_too_late_to_be_told_of_calls_is_warned_of(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late:
        def before_call(self, cb: object, func: object, *args: object, **kwargs: object) -> None: ...

    monkeypatch.setattr("tests.support.breaker_calls.Late", Late, raising=False)
    pipeline = Pipeline("svc", CircuitBreaker("svc"))
    registry.reload({"CIRCUIT_BREAKER_LISTENERS": "tests.support.breaker_calls.Late"})
    assert [event.details["problem"] for event in events if event.kind == "warning"] == [
        "pipelines built before do not tell before_call"
    ]
    assert pipeline.name == "svc"


@pytest.mark.parametrize(
    ("options", "attempt", "word"),
    [
        ({"failure_rate": 0.5, "window_seconds": 9}, 5.0, "window_seconds=9"),
        ({"failure_rate": 0.5, "window_seconds": 10}, 5.0, ""),
        ({"slow_rate": 0.5, "slow_after": 5}, 5.0, "slow_after=5"),
        ({"slow_rate": 0.5, "slow_after": 4}, 5.0, ""),
        ({"window_seconds": 1}, 5.0, ""),
        ({"failure_rate": 0.5, "window_seconds": 1}, None, ""),
    ],
)
def test_it_says_what_does_not_fit_the_time_of_an_attempt(
    options: dict[str, Any], attempt: float | None, word: str
) -> None:
    doubts = list(CircuitBreaker("svc", **options).doubts(attempt))
    assert len(doubts) == bool(word)
    assert all(word in doubt for doubt in doubts)
