"""The rates that a breaker tells at a moment: of the calls in view, and of those that run and are slow by then."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_server_langgraph.resilience._machines.breaker_evidence import Evidence
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.resilience._machines.breaker_state import Admission


def measuring(**options: Any) -> Evidence:
    return Evidence(BreakerRules(**{"slow_rate": 0.9, "slow_after": 5.0, "minimum_calls": 20, **options}))


def began(evidence: Evidence, *times: float) -> list[Admission]:
    """Timed calls that began at these times."""
    calls = [Admission(Admission(), since) for since in times]
    for call in calls:
        evidence.began(call)
    return calls


def test_where_there_are_no_calls_all_rates_are_0() -> None:
    assert measuring().measured(10.0) == (0, 0.0, 0.0)


def test_failures_are_a_share_of_the_calls_that_ended() -> None:
    evidence = measuring()
    for number, call in enumerate(began(evidence, 0.0, 0.0, 0.0, 0.0)):
        evidence.ended(call, 1.0, failed=number == 0)
    assert evidence.measured(1.0) == (4, 0.25, 0.0)
    began(evidence, 0.0, 0.0)
    assert evidence.measured(5.0) == (4, 0.25, 2 / 6), "those that run have not failed yet"


@pytest.mark.parametrize(("now", "slow"), [(14.999, 0), (15.0, 2), (15.999, 2), (16.0, 3), (100.0, 3)])
def test_calls_that_run_are_slow_as_soon_as_their_time_is_over(now: float, slow: int) -> None:
    evidence = measuring()
    ended, *_ = began(evidence, 10.0, 10.0, 10.0, 11.0)
    evidence.ended(ended, 11.0, failed=False)
    assert evidence.measured(now) == (1, 0.0, slow / (1 + slow))
    assert (len(evidence.running), len(evidence.overdue)) == (3, 0), "looking changes nothing"


def test_slow_calls_that_ended_that_were_found_and_that_nobody_found_yet_are_all_counted() -> None:
    evidence = measuring()
    quick, slow, *_ = began(evidence, 0.0, 0.0, 0.0, 1.0)
    evidence.ended(quick, 1.0, failed=False)
    evidence.ended(slow, 5.0, failed=False)
    assert (len(evidence.running), len(evidence.overdue)) == (1, 1)
    assert evidence.measured(5.0) == (2, 0.0, 2 / 3)
    assert evidence.measured(6.0) == (2, 0.0, 3 / 4)


def test_one_that_ended_in_time_and_one_that_is_slow_are_a_half() -> None:
    evidence = measuring()
    quick, _ = began(evidence, 0.0, 0.0)
    evidence.ended(quick, 1.0, failed=False)
    assert evidence.measured(5.0) == (1, 0.0, 0.5)


def test_a_window_of_seconds_tells_what_is_in_view_then_whenever_the_last_call_was() -> None:
    evidence = measuring(window_seconds=10.0)
    evidence.ended(Admission(), 0.5, failed=True)
    assert evidence.measured(9.5) == (1, 1.0, 0.0)
    assert evidence.measured(10.0) == (0, 0.0, 0.0)


def test_a_window_of_calls_knows_no_time() -> None:
    evidence = measuring(window=3)
    for failed in (True, False, True, True):
        evidence.ended(Admission(), 0.0, failed=failed)
    assert evidence.measured(1e9) == (3, pytest.approx(2 / 3), 0.0)
