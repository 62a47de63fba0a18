"""The budget's machine against naive models that keep the time of every call and of every retry."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcp_server_langgraph.resilience._machines.budget import RESERVE, Allowance

WINDOW = 10.0
GRAIN = WINDOW / 100
ROUNDING = 1e-6


class Naive:
    """Keeps every look and every retry, and counts them anew each time."""

    def __init__(self, ratio: float, per_second: float) -> None:
        self.ratio, self.per_second = ratio, per_second
        self.looks: list[tuple[float, float, int]] = []
        self.spent: list[float] = []
        self.tokens = [(0.0, RESERVE)]

    def traffic(self, now: float) -> float:
        total = 0.0
        for begin, end, count in self.looks:
            if begin == end:
                total += count * (end > now - WINDOW)
            else:
                total += count * max(0.0, min(end, now) - max(begin, now - WINDOW)) / (end - begin)
        return total

    def recent(self, now: float) -> int:
        return sum(time > now - WINDOW for time in self.spent)

    def bucket(self, now: float) -> float:
        since, tokens = self.tokens[-1]
        return min(RESERVE, tokens + (now - since) * self.per_second)

    def share(self, now: float, error: float = 0.0) -> bool:
        return self.recent(now) + 1 < self.ratio * self.traffic(now) + error

    def may(self, now: float, error: float = 0.0) -> bool:
        """Whether one more may begin; a positive ``error`` decides what is undecided within it for yes."""
        floor = max(RESERVE, self.per_second * WINDOW) if self.per_second else 0
        below = self.recent(now) + 1 <= floor + error
        return self.share(now, error) or (self.bucket(now) + error >= 1 and below)


ratios = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0])
floors = st.sampled_from([0.0, 0.1, 1.0, 5.0])
steps = st.tuples(
    st.sampled_from([0.0, 0.15, 0.5, 1.0, 3.0, 9.0, 12.0, 100.0]) | st.floats(0.11, 20),
    st.integers(0, 80),
    st.integers(0, 12),
)


@settings(max_examples=150, deadline=None)
@given(ratio=ratios, per_second=floors, script=st.lists(steps, max_size=30))
def test_where_looks_are_not_close_together_it_is_exactly_what_was_said(
    ratio: float, per_second: float, script: list[tuple[float, int, int]]
) -> None:
    machine, naive = Allowance(ratio, per_second, WINDOW, 0.0), Naive(ratio, per_second)
    now = looked = 0.0
    for pause, arrived, wanted in script:
        now += pause
        for _ in range(wanted):
            naive.looks.append((looked, now, arrived))
            share = naive.share(now)
            sure = naive.may(now, ROUNDING) == naive.may(now, -ROUNDING)
            granted = machine.take(now, arrived)
            if sure:
                assert granted == naive.may(now)
            if granted:
                if not share:
                    naive.tokens.append((now, naive.bucket(now) - 1))
                naive.spent.append(now)
            looked, arrived = now, 0


class AnyTimes(RuleBasedStateMachine):
    """Whatever the times, and however close together: never more than share and floor allow, to a grain."""

    @initialize(ratio=ratios, per_second=floors)
    def begin(self, ratio: float, per_second: float) -> None:
        self.machine = Allowance(ratio, per_second, WINDOW, 0.0)
        self.now = 0.0
        self.ratio, self.per_second = ratio, per_second
        self.arrivals: list[tuple[float, float, int]] = []
        self.granted: list[float] = []
        self.last = 0.0

    @rule(pause=st.floats(0, 0.3) | st.floats(0, 30), arrived=st.integers(0, 200), wanted=st.integers(0, 60))
    def go_on(self, pause: float, arrived: int, wanted: int) -> None:
        self.now += pause
        for _ in range(wanted):
            self.arrivals.append((self.last, self.now, arrived))
            self.last = self.now
            if self.machine.take(self.now, arrived):
                self.granted.append(self.now)
            arrived = 0
        balance = self.machine.balance(self.now, arrived)
        self.arrivals.append((self.last, self.now, arrived))
        self.last = self.now
        assert balance >= 0

    @rule(back=st.floats(0, 5))
    def a_thread_is_late(self, back: float) -> None:
        if self.machine.take(self.now - back, 0):
            self.granted.append(self.now)
        self.last = self.now

    @invariant()
    def never_more_than_the_larger_of_share_and_floor(self) -> None:
        floor = max(RESERVE, self.per_second * WINDOW) if self.per_second else 0.0
        for time in self.granted[-3:]:
            spent = sum(time - WINDOW + GRAIN < other <= time for other in self.granted)
            traffic = sum(
                count for begin, end, count in self.arrivals if end > time - WINDOW - GRAIN and begin <= time
            )
            assert spent <= max(self.ratio * traffic, floor) + 1


TestAnyTimes = AnyTimes.TestCase
TestAnyTimes.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@settings(max_examples=100, deadline=None)
@given(ratio=ratios, per_second=floors, script=st.lists(steps, max_size=15))
def test_the_balance_is_how_many_can_be_taken(
    ratio: float, per_second: float, script: list[tuple[float, int, int]]
) -> None:
    machine, now = Allowance(ratio, per_second, WINDOW, 0.0), 0.0
    for pause, arrived, wanted in script:
        now += pause
        for _ in range(wanted):
            machine.take(now, arrived)
            arrived = 0
    balance = machine.balance(now, 0)
    taken = 0
    while machine.take(now, 0):
        taken += 1
    assert abs(taken - balance) <= 1  # rounding, where the share is a whole number
    assert machine.balance(now, 0) == 0


def test_a_lone_caller_may_retry_twice_and_a_crowd_of_first_calls_does_not_fill_a_bucket() -> None:
    machine = Allowance(0.2, 1.0, WINDOW, began=0.0)
    assert [machine.take(0.01, number == 0) for number in range(4)] == [True, True, True, False]
    machine = Allowance(0.2, 1.0, WINDOW, began=0.0)
    assert sum(machine.take(0.01, 0 if number else 200) for number in range(200)) == 39


def test_traffic_of_an_hour_counts_with_what_lies_within_the_window() -> None:
    machine = Allowance(0.2, 0.0, WINDOW, began=0.0)
    assert sum(machine.take(3600.0, 0 if number else 360_000) for number in range(500)) == 199
    machine = Allowance(0.2, 0.0, WINDOW, began=0.0)
    assert machine.balance(3600.0, 36) == 0


def test_the_floor_fills_up_again_with_time_up_to_its_reserve() -> None:
    machine = Allowance(0.2, 0.5, WINDOW, began=0.0)
    assert sum(machine.take(0.0, 0) for _ in range(9)) == 3
    assert [machine.take(now, 0) for now in (1.9, 2.0, 2.1)] == [False, True, False]
    assert sum(machine.take(100.0, 0) for _ in range(9)) == 3


def test_without_a_floor_who_has_no_traffic_may_not_retry() -> None:
    assert not Allowance(0.2, 0.0, WINDOW, began=0.0).take(5.0, 5)
    assert Allowance(0.2, 0.0, WINDOW, began=0.0).take(5.0, 6)


def test_another_clock_begins_anew() -> None:
    machine = Allowance(0.2, 1.0, WINDOW, began=1e6)
    assert sum(machine.take(1e6, 0) for _ in range(9)) == 3
    assert sum(machine.take(0.0, 0 if number else 100) for number in range(50)) == 19


def test_memory_does_not_grow_with_traffic() -> None:
    machine = Allowance(1.0, 1.0, WINDOW, began=0.0)
    for step in range(20_000):
        machine.take(step / 1000, 2)
    assert len(machine._arrived._spans) < 120
    assert len(machine._spent._spans) < 120
    assert math.isclose(machine._arrived.since(20 - WINDOW), 20_000, rel_tol=0.01)


def test_a_thread_that_comes_late_takes_nothing_from_the_floor() -> None:
    machine = Allowance(0.2, 1.0, WINDOW, began=0.0)
    machine.look(10.0, 0)
    assert sum(machine.take(7.5, 0) for _ in range(9)) == 3


def test_the_balance_counts_what_has_just_arrived() -> None:
    assert Allowance(0.2, 0.0, WINDOW, began=0.0).balance(5.0, 100) == 19


def test_what_was_spent_a_window_ago_is_spent_no_more() -> None:
    machine = Allowance(0.0, 0.3, WINDOW, began=0.0)
    assert [machine.take(0.0, 0) for _ in range(4)] == [True, True, True, False]
    assert [machine.take(WINDOW, 0) for _ in range(4)] == [True, True, True, False]


def test_another_clock_knows_nothing_of_what_was_spent() -> None:
    machine = Allowance(0.0, 0.3, WINDOW, began=1e6)
    assert sum(machine.take(1e6, 0) for _ in range(4)) == 3
    assert not machine.take(0.0, 0)
    assert sum(machine.take(WINDOW, 0) for _ in range(4)) == 3


def test_a_thread_that_is_late_by_no_more_than_a_window_is_on_the_same_clock() -> None:
    machine = Allowance(0.2, 0.0, WINDOW, began=1e6)
    assert machine.take(1e6 + 1, 100)
    assert machine.take(1e6 + 1 - WINDOW, 0)
