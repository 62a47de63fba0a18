"""The cooldown's machine against a model that keeps every wish it ever heard."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcp_server_langgraph.resilience._machines.cooldown import TRANSITIONS, CooldownMachine

JITTER = 0.5


@dataclass
class Wish:
    heard: float
    seconds: float
    own: bool  # of a call of our own

    @property
    def end(self) -> float:
        return self.heard + self.seconds


@dataclass
class Model:
    """Cooling until the latest end of all wishes."""

    first: float
    longest: float
    doubled: float = 0.0
    wishes: list[Wish] = field(default_factory=list)

    def last(self) -> Wish | None:
        best: Wish | None = None
        for wish in self.wishes:
            if best is None or wish.end > best.end:
                best = wish
        return best

    def until(self) -> float:
        last = self.last()
        return -math.inf if last is None else last.end

    def last_own(self) -> Wish | None:
        """The last of our own that made the time longer."""
        last, until = None, -math.inf
        for wish in self.wishes:
            if wish.own and wish.end > until:
                last = wish
            until = max(until, wish.end)
        return last

    def hear(self, began: float, now: float, asked: float | None) -> None:
        last = self.last_own()
        if asked is None:
            if last is not None and began < last.heard:
                return
            asked = self.doubled or min(self.first, self.longest)
            self.doubled = min(asked * 2, self.longest)
        if asked > 0:
            self.wishes.append(Wish(now, asked, own=True))

    def hear_of(self, now: float, seconds: float) -> None:
        if seconds > 0:
            self.wishes.append(Wish(now, seconds, own=False))

    def state(self, now: float) -> str:
        last = self.last()
        if last is None or now >= last.heard + last.seconds * (1 + JITTER):
            return "idle"
        return "cooling" if now < last.end else "returning"


class CooldownAgainstModel(RuleBasedStateMachine):
    """Calls that began earlier or now, refused with and without a number, or served, the word of others, and time."""

    @initialize(first=st.sampled_from([0.0, 1.0, 3.0]), longest=st.sampled_from([2.0, 16.0]))
    def begin(self, first: float, longest: float) -> None:
        self.now = 0.0
        self.model = Model(first, longest)
        self.machine = CooldownMachine(first, longest, JITTER)
        self.before = "idle"
        self.seen: set[tuple[str, str]] = set()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(ago=st.sampled_from([0.0, 0.5, 2.0, 8.0]), asked=st.sampled_from([None, None, 0.0, 1.0, 5.0, 30.0]))
    def a_call_is_refused(self, ago: float, asked: float | None) -> None:
        until = self.model.until()
        self.model.hear(self.now - ago, self.now, asked)
        longer = self.machine.refused(self.now - ago, self.now, asked)
        assert longer == (self.model.until() > until)

    @rule(seconds=st.sampled_from([-1.0, 0.0, 0.5, 5.0, 30.0]))
    def others_are_told_to_wait(self, seconds: float) -> None:
        until = self.model.until()
        self.model.hear_of(self.now, seconds)
        assert self.machine.told(self.now, seconds) == (self.model.until() > until)

    @rule(ago=st.sampled_from([0.0, 0.5, 2.0, 8.0]))
    def a_call_is_served(self, ago: float) -> None:
        if self.now - ago >= self.model.until():
            self.model.doubled = 0.0
        self.machine.succeeded(self.now - ago)

    @invariant()
    def they_agree(self) -> None:
        assert self.machine.state(self.now) == self.model.state(self.now)
        assert self.machine.left(self.now) == pytest.approx(max(0.0, self.model.until() - self.now))
        own = self.model.last_own()
        assert self.machine.own_until == (-math.inf if own is None else own.end)

    @invariant()
    def only_known_transitions_happen(self) -> None:
        state = self.machine.state(self.now)
        known = {(before, after) for before, after, _ in TRANSITIONS}
        # Time may pass over a state.
        assert (self.before, state) in known | {(state, state), ("cooling", "idle")}
        self.before = state


TestCooldownAgainstModel = CooldownAgainstModel.TestCase
TestCooldownAgainstModel.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def test_those_who_waited_come_back_over_a_share_of_the_time() -> None:
    machine = CooldownMachine(jitter=0.5)
    machine.refused(0.0, 0.0, 10.0)
    assert [machine.returned_at(chance) for chance in (0.0, 0.5, 1.0)] == [10.0, 12.5, 15.0]


@pytest.mark.parametrize(
    ("now", "state"),
    [(0.0, "cooling"), (9.999, "cooling"), (10.0, "returning"), (14.999, "returning"), (15.0, "idle")],
)
def test_each_state_ends_at_the_moment_that_the_next_begins(now: float, state: str) -> None:
    machine = CooldownMachine(jitter=0.5)
    assert machine.state(0.0) == "idle"
    machine.refused(0.0, 0.0, 10.0)
    assert machine.state(now) == state


@pytest.mark.parametrize(("began", "next_time"), [(0.999, 2.0), (1.0, 1.0)])
def test_only_a_call_that_began_after_the_time_proves_that_it_is_over(began: float, next_time: float) -> None:
    machine = CooldownMachine(first=1.0)
    machine.refused(0.0, 0.0, None)
    machine.succeeded(began)
    machine.refused(1.0, 1.0, None)
    assert machine.left(1.0) == next_time


@pytest.mark.parametrize(("began", "length"), [(9.999, 1.0), (10.0, 2.0)])
def test_calls_that_began_before_the_last_refusal_was_known_count_once_with_it(
    began: float, length: float
) -> None:
    machine = CooldownMachine()
    assert machine.refused(9.0, 10.0, None)
    assert machine.refused(began, 10.5, None) == (length == 2.0)
    assert machine.length == length


def test_by_default_it_begins_with_a_second_doubles_up_to_a_minute_and_spreads_over_a_tenth() -> None:
    machine = CooldownMachine()
    lengths, now = [], 0.0
    for _ in range(8):
        machine.refused(now, now, None)
        lengths.append(machine.left(now))
        now = machine.until
    assert lengths == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert machine.returned_at(1.0) == machine.until + 6.0


def test_a_dependency_that_refuses_for_days_is_still_left_alone_for_a_minute_each_time() -> None:
    machine, now = CooldownMachine(), 0.0
    for _ in range(1100):  # two to the power of that is no float any more
        assert machine.refused(now, now, None)
        now = machine.until
    assert machine.length == 60.0


def test_who_waited_on_the_word_of_others_comes_back_over_a_share_of_their_time() -> None:
    machine = CooldownMachine(jitter=0.5)
    assert machine.told(100.0, 1.0)
    assert (machine.left(100.0), machine.returned_at(1.0)) == (1.0, 101.5)
    assert machine.told(100.0, 10.0)
    assert (machine.left(100.0), machine.returned_at(1.0)) == (10.0, 115.0)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 5.0, 10.0])
def test_what_others_are_told_never_makes_it_shorter(seconds: float) -> None:
    machine = CooldownMachine(jitter=0.5)
    assert not machine.told(0.0, min(0.0, seconds))
    assert machine.told(0.0, 10.0)
    assert not machine.told(0.0, seconds)
    assert (machine.until, machine.returned_at(1.0)) == (10.0, 15.0)


def test_the_word_of_others_is_not_our_own() -> None:
    machine = CooldownMachine()
    machine.told(0.0, 10.0)
    assert machine.own_until == -math.inf
    assert not machine.refused(0.0, 0.0, 5.0)
    assert machine.own_until == -math.inf
    assert machine.refused(0.0, 0.0, 20.0)
    machine.told(0.0, 30.0)
    assert (machine.until, machine.own_until) == (30.0, 20.0)
