"""The arithmetic of the service level."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.monitoring.sla import Group, Measured, SlaReport, Targets, quantile, report


def group(
    ok: float = 0, error: float = 0, refused: float = 0, cancelled: float = 0, seconds: float = 0.1
) -> Group:
    served = ok + error + refused
    bounds = (0.25, 0.5, 1.0, math.inf)
    outcomes = {"ok": ok, "error": error, "refused": refused, "cancelled": cancelled}
    return Group(outcomes, {bound: served if seconds <= bound else 0.0 for bound in bounds})


def reported(measured: Measured, **options: object) -> SlaReport:
    return report(measured, source="process", window=60, as_of=0, **options)  # type: ignore[arg-type]


def test_nothing_called_is_neither_met_nor_missed() -> None:
    level = reported(Measured(tools={"a": group()}))
    assert (level.availability, level.overall.error_rate, level.overall.p95_seconds) == (None, None, None)
    assert level.missed == ()


def test_what_the_caller_has_to_mend_was_served_and_what_it_cancelled_says_nothing() -> None:
    level = reported(Measured(tools={"a": group(ok=6, error=1, refused=3, cancelled=90)}))
    assert (level.overall.calls, level.overall.errors, level.overall.error_rate) == (10, 1, 0.1)
    assert level.availability == 0.9


def test_requests_refused_at_the_door_are_calls_that_failed() -> None:
    level = reported(Measured(tools={"a": group(ok=9)}, http_errors=1))
    assert (level.overall.calls, level.overall.errors) == (10, 1)


@pytest.mark.parametrize(("errors", "missed"), [(0, 0), (1, 0), (2, 2)])
def test_availability_and_error_rate_are_missed_beyond_a_ten_thousandth(errors: int, missed: int) -> None:
    level = reported(Measured(tools={"a": group(ok=10_000 - errors, error=errors)}))
    assert len(level.missed) == missed, level.missed


def test_a_slow_tool_misses_its_time_unless_it_waits_for_a_model() -> None:
    measured = Measured(tools={"chat": group(ok=10, seconds=0.9), "get": group(ok=10, seconds=0.9)})
    assert [sentence.split()[2] for sentence in reported(measured).missed] == ["chat", "get"]
    level = reported(measured, patient=["chat"])
    assert [sentence.split()[2] for sentence in level.missed] == ["get"]
    assert level.overall.p95_seconds == pytest.approx(0.975)
    assert reported(measured, targets=Targets(p95_seconds=1.0)).missed == ()


def test_the_time_of_all_is_that_of_the_tools_that_are_judged_by_it() -> None:
    measured = Measured(tools={"chat": group(ok=90, seconds=0.9), "get": group(ok=10, seconds=0.1)})
    level = reported(measured, patient=["chat"])
    assert (level.overall.calls, level.overall.p95_seconds) == (100, pytest.approx(0.2375))
    overall = reported(measured).overall.p95_seconds
    assert overall is not None
    assert overall > 0.9


def test_a_server_that_was_down_misses_its_uptime() -> None:
    assert reported(Measured(uptime=0.9999)).missed == ()
    assert reported(Measured(uptime=0.99)).missed == ("the server was up for 99.0000%, promised are 99.99%",)


def test_a_service_s_failures_are_not_the_server_s_and_neutral_ends_are_not_counted() -> None:
    service = Group({"success": 8.0, "failure": 2.0, "neutral": 5.0}, {0.25: 8.0, math.inf: 8.0})
    counts = {"fallbacks": {"redis": 2.0, "llm": 0.0}, "openings": {"redis": 1.0}}
    level = reported(Measured(services={("redis", "get"): service}, **counts))
    (found,) = level.services
    assert (found.calls, found.failures, found.failure_rate) == (10, 2, 0.2)
    assert (level.fallbacks, level.openings, level.missed) == ({"redis": 2}, {"redis": 1}, ())


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({}, None),
        ({1.0: 0.0, math.inf: 0.0}, None),
        ({1.0: 10.0, math.inf: 10.0}, 0.95),
        ({1.0: 0.0, 2.0: 10.0, math.inf: 10.0}, 1.95),
        ({1.0: 5.0, 2.0: 5.0, math.inf: 10.0}, 2.0),
        ({1.0: 19.0, 2.0: 20.0, math.inf: 20.0}, 1.0),
    ],
)
def test_the_quantile_is_promql_s(buckets: dict[float, float], expected: float | None) -> None:
    assert quantile(0.95, buckets) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 50), min_size=2, max_size=8))
def test_the_quantile_lies_in_the_bucket_in_which_that_share_of_the_calls_is_reached(
    counts: list[int],
) -> None:
    bounds = [*(float(n + 1) for n in range(len(counts) - 1)), math.inf]
    buckets = {bound: float(sum(counts[: n + 1])) for n, bound in enumerate(bounds)}
    value = quantile(0.95, buckets)
    if not sum(counts):
        assert value is None
        return
    assert value is not None
    reached = next(bound for bound in bounds if buckets[bound] >= 0.95 * sum(counts))
    assert value <= reached
    assert value >= min(reached, bounds[-2]) - 1
