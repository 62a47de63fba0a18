"""What a breaker has measured: which calls count as slow, and what a change of the settings leaves of it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_evidence import Evidence
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.resilience._machines.breaker_state import Admission, State


def rules(**options: Any) -> BreakerRules:
    return BreakerRules(**{"slow_rate": 0.5, "slow_after": 5.0, "minimum_calls": 2, **options})


def running(evidence: Evidence, *begun: float) -> list[Admission]:
    """Timed calls that began at these times."""
    admissions = [Admission(Admission(), since) for since in begun]
    for admission in admissions:
        evidence.began(admission)
    return admissions


@pytest.mark.parametrize(("seconds", "slow"), [(4.999, 0), (5.0, 1)])
def test_a_call_that_ends_just_when_it_becomes_slow_is_slow(seconds: float, slow: int) -> None:
    evidence = Evidence(rules())
    (call,) = running(evidence, 10.0)
    evidence.ended(call, 10.0 + seconds, failed=False)
    assert evidence.window.slow == slow


@pytest.mark.parametrize(("seconds", "rate"), [(4.999, None), (5.0, "slow_rate")])
def test_running_calls_are_slow_from_the_same_moment_on(seconds: float, rate: str | None) -> None:
    evidence = Evidence(rules())
    running(evidence, 10.0, 10.0)
    assert evidence.too_slow(10.0 + seconds) == rate


def test_the_end_of_a_call_can_make_the_rate_of_slow_ones_too_high() -> None:
    evidence = Evidence(rules(slow_rate=0.25, minimum_calls=4))
    calls = running(evidence, *[0.0] * 4)
    assert [evidence.ended(call, 1.0, failed=False) for call in calls[:3]] == [None] * 3
    assert evidence.ended(calls[3], 9.0, failed=False) == "slow_rate"


def test_one_slow_call_of_four_is_a_rate_of_a_quarter() -> None:
    evidence = Evidence(rules(slow_rate=0.5))
    for call in running(evidence, 0.0, 0.0, 0.0):
        evidence.ended(call, 1.0, failed=False)
    running(evidence, 2.0)
    assert (evidence.too_slow(7.0), evidence.measured(7.0).slow_rate) == (None, 0.25)


def test_a_slow_call_that_leaves_while_it_runs_is_no_longer_counted() -> None:
    evidence = Evidence(rules())
    first, _ = running(evidence, 0.0, 0.0)
    assert (evidence.too_slow(5.0), evidence.measured(5.0).slow_rate) == ("slow_rate", 1.0)
    evidence.left(first)
    assert (evidence.too_slow(5.0), len(evidence.overdue)) == (None, 1)


def test_a_longer_time_makes_slow_calls_quick_again_and_each_becomes_slow_in_its_turn() -> None:
    evidence = Evidence(rules())
    running(evidence, *range(40))
    assert evidence.too_slow(44.0) == "slow_rate"
    assert len(evidence.overdue) == 40
    evidence.change(rules(slow_after=24.0))
    assert not evidence.overdue
    evidence.too_slow(44.0)
    assert [len(evidence.overdue), len(evidence.running)] == [21, 19]


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ({"window": 7}, {"window": 7}, True),
        ({"window": 7}, {"window": 8}, False),
        ({"window": 7}, {"window": 7, "window_seconds": 60.0}, False),
        ({"window": 7, "window_seconds": 60.0}, {"window": 7}, False),
        ({"window": 7, "window_seconds": 60.0}, {"window": 8, "window_seconds": 60.0}, True),
        ({"window_seconds": 60.0}, {"window_seconds": 61.0}, False),
    ],
)
def test_what_was_measured_stays_where_the_windows_size_does(
    before: dict[str, Any], after: dict[str, Any], stays: bool
) -> None:
    evidence = Evidence(rules(**before))
    evidence.ended(Admission(), 0.0, failed=True)
    evidence.change(rules(**after))
    assert evidence.window.calls == evidence.window.failures == stays
    assert evidence.rules == rules(**after)


# In the machine


def measuring(**options: Any) -> BreakerMachine:
    return BreakerMachine(rules(**{"fail_max": 0, **options}))


@pytest.mark.parametrize(("seconds", "slow"), [(4.999, 0), (5.0, 1)])
def test_a_stream_is_slow_by_its_first_item(seconds: float, slow: int) -> None:
    machine = measuring()
    admission = machine.admit(10.0)
    assert machine.evidence is not None
    assert admission is not None
    machine.first_item_came(admission, 10.0 + seconds)
    assert len(machine.evidence.running) == slow
    machine.succeeded(admission, 60.0)
    assert machine.evidence.window.slow == slow


def test_failures_in_a_row_do_not_open_what_goes_by_rates_alone() -> None:
    machine = measuring(slow_rate=None, failure_rate=0.5, minimum_calls=20)
    for _ in range(19):
        admission = machine.admit(0.0)
        assert admission is machine.closed is machine.door, "where no time matters calls share one admission"
        assert admission is not None
        machine.failed(admission, 0.0)
    assert machine.state.value == "closed"


def test_a_change_of_the_settings_begins_and_ends_the_measuring() -> None:
    machine = BreakerMachine(BreakerRules())
    assert machine.quiet
    machine.change(rules(failure_rate=0.5))
    assert machine.evidence is not None
    assert (machine.evidence.rules, machine.quiet) == (rules(failure_rate=0.5), False)
    machine.change(BreakerRules())
    assert (machine.evidence, machine.quiet) == (None, True)


@pytest.mark.parametrize(("window_seconds", "enough"), [(None, 3), (60.0, 20)])
def test_a_full_window_is_enough_unless_it_is_one_of_seconds(
    window_seconds: float | None, enough: int
) -> None:
    assert rules(window=3, minimum_calls=20, window_seconds=window_seconds).enough_calls == enough


def test_the_end_of_a_slow_call_opens_it_then_and_there() -> None:
    machine = measuring(minimum_calls=1)
    call = machine.admit(10.0)
    assert call is not None
    machine.succeeded(call, 15.0)
    assert (machine.state, machine.because, machine.opened_at) == (State.OPEN, "slow_rate", 15.0)


def test_calls_that_hang_open_it_when_the_next_one_comes() -> None:
    machine = measuring()
    for _ in range(2):
        assert machine.admit(10.0) is not None
    assert machine.admit(15.0) is None
    assert (machine.state, machine.because, machine.opened_at) == (State.OPEN, "slow_rate", 15.0)


def test_calls_that_were_abandoned_hang_no_more() -> None:
    machine = measuring()
    for _ in range(2):
        call = machine.admit(10.0)
        assert call is not None
        machine.abandoned(call)
    assert machine.admit(15.0) is not None


def test_a_probe_that_the_collector_abandons_as_its_success_is_told_does_no_harm() -> None:
    class Abandoned(dict[Admission, None]):
        def __contains__(self, admission: object) -> bool:
            return super().pop(admission, 0) is None  # type: ignore[call-overload, no-any-return]

    machine = BreakerMachine(BreakerRules(fail_max=1, timeout=1.0, success_threshold=2))
    machine.open(0.0, "fail_max")
    probe = machine.admit(1.0)
    assert probe is not None
    machine.probes = Abandoned(machine.probes)
    machine.succeeded(probe, 2.0)
    assert machine.state is State.HALF_OPEN
    assert not machine.probes
