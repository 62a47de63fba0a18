"""The throttle's machine against a model that keeps every call."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.throttle import PARTS, ThrottleMachine

WINDOW = 24.0


@dataclass
class Model:
    """Every call with its time; shares are found by walking over the calls themselves."""

    k: float
    cap: float
    least: int
    calls: list[tuple[float, int, bool]] = field(default_factory=list)

    def within(self, now: float, seconds: float) -> list[tuple[float, int, bool]]:
        return [call for call in self.calls if call[0] > now - seconds]

    def share_of(self, level: int, requests: list[int], accepts: int) -> float:
        """Give each call its share of what must go, the least important first, no more than the cap to any."""
        everyone = sorted(each for each, count in enumerate(requests) for _ in range(count))
        if len(everyone) < self.least:
            return 0.0
        formula = max(0.0, (len(everyone) - self.k * accepts) / (len(everyone) + 1))
        to_go = min(self.cap, formula) * len(everyone)
        given_to = [0.0] * 4
        for each in everyone:
            part = min(self.cap, to_go)
            given_to[each] += part
            to_go -= part
        return given_to[level] / requests[level]


@given(
    k=st.sampled_from([1.0, 1.1, 2.0]),
    cap=st.sampled_from([0.5, 0.9, 1.0]),
    least=st.sampled_from([0, 5]),
    script=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.5, 1.0, 7.0, 30.0]), st.integers(0, 3), st.booleans()),
        max_size=60,
    ),
)
@settings(max_examples=150, deadline=None)
def test_it_sheds_what_a_walk_over_all_calls_would_shed(
    k: float, cap: float, least: int, script: list[tuple[float, int, bool]]
) -> None:
    machine, model, now = ThrottleMachine(k, cap, WINDOW, least), Model(k, cap, least), 0.0
    for pause, level, accepted in script:
        now += pause
        machine.presses(now)
        requests, accepts = list(machine.requests), machine.accepts
        surely = model.within(now, WINDOW - WINDOW / PARTS - 1e-9)
        perhaps = model.within(now, WINDOW + WINDOW / PARTS + 1e-9)
        for each in range(4):
            assert sum(call[1] == each for call in surely) <= requests[each]
            assert requests[each] <= sum(call[1] == each for call in perhaps)
            if requests[each]:
                expected = model.share_of(each, requests, accepts)
                assert machine.share_of(each, now) == pytest.approx(expected, abs=1e-9)
                assert machine.presses(now) or expected == 0
        assert sum(call[2] for call in surely) <= accepts <= sum(call[2] for call in perhaps)
        assert machine.total == sum(requests)
        machine.ended(level, now, accepted=accepted)
        model.calls.append((now, level, accepted))


def refused(machine: ThrottleMachine, *counts: int) -> None:
    for level, count in enumerate(counts):
        for _ in range(count):
            machine.ended(level, 0.0, accepted=False)


def test_those_who_matter_least_are_shed_first_and_up_to_the_cap() -> None:
    machine = ThrottleMachine(2.0, 0.9, least=0)
    refused(machine, 25, 25, 25)
    for _ in range(25):
        machine.ended(3, 0.0, accepted=True)
    assert machine.share(0.0) == pytest.approx(50 / 101)
    assert machine.share_of(0, 0.0) == 0.9
    assert machine.share_of(1, 0.0) == 0.9
    assert machine.share_of(2, 0.0) == pytest.approx((50 / 101 * 100 - 45) / 25)
    assert machine.share_of(3, 0.0) == 0


def test_a_level_that_none_came_of_is_judged_as_if_all_were_of_it() -> None:
    machine = ThrottleMachine(2.0, 0.9, least=0)
    refused(machine, 0, 0, 99)
    assert machine.share_of(0, 0.0) == 0.9
    assert machine.share_of(3, 0.0) == pytest.approx(0.0, abs=0.01)


def test_a_part_always_goes_through() -> None:
    machine = ThrottleMachine(2.0, 0.9)
    refused(machine, 0, 0, 1000)
    assert machine.sheds(2, 0.89, 0.0)
    assert not machine.sheds(2, 0.9, 0.0)


def test_few_calls_shed_nobody() -> None:
    machine = ThrottleMachine(least=10)
    refused(machine, 0, 0, 9)
    assert not machine.presses(0.0)
    refused(machine, 0, 0, 1)
    assert machine.presses(0.0)


def test_another_window_forgets_what_is_beyond_it_and_keeps_the_rest() -> None:
    machine = ThrottleMachine(least=0)
    machine.ended(2, 0.0, accepted=False)
    machine.ended(2, 50.0, accepted=False)
    machine.change_window(20.0)
    assert machine.presses(60.0)
    assert machine.total == 1


def test_a_new_one_has_counted_nothing_and_sheds_nobody() -> None:
    machine = ThrottleMachine(least=0)
    assert (machine.requests, machine.total, machine.accepts) == ([0] * 4, 0, 0)
    assert [machine.share_of(level, 0.0) for level in range(4)] == [0.0] * 4


def test_by_default_it_sends_two_calls_for_each_accepted_one_looks_at_two_minutes_and_sheds_nine_tenths() -> (
    None
):
    machine = ThrottleMachine()
    refused(machine, 9)
    assert not machine.presses(0.0)
    machine.ended(0, 0.0, accepted=False)
    assert machine.share(0.0) == 0.9
    assert machine.presses(115.0)
    assert not machine.presses(120.0)
    for accepted in (True, False) * 25:
        machine.ended(0, 120.0, accepted=accepted)
    assert not machine.presses(120.0), "two are sent for each that is accepted"
    machine.ended(0, 120.0, accepted=False)
    assert machine.presses(120.0)


@pytest.mark.parametrize(("second", "left"), [(0.9, 0), (1.0, 1)])
def test_a_call_leaves_the_window_with_the_part_that_it_ended_in(second: float, left: int) -> None:
    machine = ThrottleMachine(window=WINDOW, least=0)
    machine.ended(0, 0.0, accepted=False)
    machine.ended(0, second, accepted=False)
    machine.presses(WINDOW)
    assert machine.total == left


def test_asking_turns_the_window_too_and_at_the_very_moment() -> None:
    machine = ThrottleMachine(window=WINDOW, least=0)
    machine.ended(0, 0.0, accepted=False)
    machine.ended(0, WINDOW - 1, accepted=False)
    machine.presses(WINDOW)
    assert machine.total == 1


def test_a_level_that_none_came_of_has_the_share_of_all() -> None:
    machine = ThrottleMachine(least=0)
    refused(machine, 0, 0, 75)
    for _ in range(25):
        machine.ended(3, 0.0, accepted=True)
    assert machine.share_of(0, 0.0) == pytest.approx(50 / 101)
