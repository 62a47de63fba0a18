"""What the breaker's machine makes of the word of others: a break that is theirs, as long as it has none of its own."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.resilience._machines.breaker_state import Admission, State


def machine(timeout_max: float = 300.0) -> BreakerMachine:
    return BreakerMachine(BreakerRules(fail_max=1, timeout=10.0, timeout_max=timeout_max, lease=10.0))


def admitted(machine: BreakerMachine, now: float) -> Admission:
    admission = machine.admit(now)
    assert admission is not None
    return admission


@pytest.mark.parametrize("seconds", [0.5, 5.0, 50.0])
def test_it_opens_for_just_as_long_as_they_say(seconds: float) -> None:
    breaker = machine()
    assert breaker.told(100.0, seconds) is True
    assert (breaker.state, breaker.because, breaker.opened_at) == (State.OPEN, "quorum", 100.0)
    assert breaker.open_until == 100.0 + seconds
    assert breaker.admit(99.9 + seconds) is None
    assert breaker.admit(100.0 + seconds) is not None


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_it_stays_closed_where_they_say_that_it_is_over(seconds: float) -> None:
    breaker = machine()
    assert breaker.told(100.0, seconds) is False
    assert breaker.state is State.CLOSED


def test_their_break_ends_when_they_say_so_later_or_sooner() -> None:
    breaker = machine()
    breaker.told(100.0, 10.0)
    assert breaker.told(101.0, 30.0) is False
    assert (breaker.open_until, breaker.opened_at) == (131.0, 100.0)
    assert breaker.told(102.0, 2.0) is False
    assert breaker.open_until == 104.0
    assert breaker.told(103.0, 0.0) is False
    assert breaker.admit(103.0) is not None


def test_a_break_of_its_own_is_not_theirs() -> None:
    breaker = machine()
    breaker.failed(admitted(breaker, 100.0), 100.0)
    for seconds in (0.0, 50.0):
        assert breaker.told(101.0, seconds) is False
        assert (breaker.state, breaker.because, breaker.open_until) == (State.OPEN, "fail_max", 110.0)


def test_while_a_probe_is_under_way_their_word_changes_nothing() -> None:
    breaker = machine()
    breaker.told(100.0, 10.0)
    probe = admitted(breaker, 110.0)
    for seconds in (0.0, 50.0):
        assert breaker.told(111.0, seconds) is False
        assert (breaker.state, breaker.open_until) == (State.HALF_OPEN, 110.0)
    breaker.succeeded(probe, 112.0)
    assert breaker.state is State.CLOSED


def test_what_a_probe_found_after_their_break_is_a_finding_of_its_own() -> None:
    breaker = machine()
    breaker.told(100.0, 10.0)
    breaker.failed(admitted(breaker, 110.0), 110.0)
    assert breaker.because == "probe_failed"
    until = breaker.open_until
    assert breaker.told(111.0, 0.0) is False
    assert breaker.open_until == until


def test_they_open_it_again_after_it_had_closed() -> None:
    breaker = machine()
    breaker.told(100.0, 10.0)
    breaker.succeeded(admitted(breaker, 110.0), 110.0)
    assert breaker.told(111.0, 4.0) is True
    assert breaker.open_until == 115.0


def test_a_change_of_the_settings_leaves_their_break_its_end() -> None:
    breaker = machine()
    breaker.told(100.0, 10.0)
    breaker.change(BreakerRules(fail_max=1, timeout=77.0))
    assert breaker.open_until == 110.0


def test_they_are_believed_as_far_as_a_retry_after() -> None:
    for timeout_max, believed in ((60.0, 300.0), (900.0, 900.0)):
        breaker = machine(timeout_max)
        breaker.told(100.0, 1e9)
        assert breaker.open_until == 100.0 + believed


def test_a_dependency_that_asked_for_more_is_left_alone_for_longer_than_they_say() -> None:
    breaker = BreakerMachine(BreakerRules(fail_max=2))
    breaker.failed(admitted(breaker, 100.0), 100.0, 60.0)
    breaker.told(100.0, 10.0)
    assert breaker.open_until == 160.0
