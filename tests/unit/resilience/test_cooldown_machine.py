"""The cooldown's machine against a model that keeps every wish it ever heard."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mcp_server_langgraph.resilience._cooldown import TRANSITIONS, CooldownMachine

JITTER = 0.5


@dataclass
class Wish:
    heard: float
    seconds: float


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
            if best is None or wish.heard + wish.seconds > best.heard + best.seconds:
                best = wish
        return best

    def until(self) -> float:
        last = self.last()
        return float("-inf") if last is None else last.heard + last.seconds

    def hear(self, began: float, now: float, asked: float | None) -> None:
        last = self.last()
        if asked is None:
            if last is not None and began < last.heard:
                return
            asked = self.doubled or min(self.first, self.longest)
            self.doubled = min(asked * 2, self.longest)
        if asked > 0:
            self.wishes.append(Wish(now, asked))

    def state(self, now: float) -> str:
        last = self.last()
        if last is None or now >= last.heard + last.seconds * (1 + JITTER):
            return "idle"
        return "cooling" if now < last.heard + last.seconds else "returning"


class CooldownAgainstModel(RuleBasedStateMachine):
    """Calls that began earlier or now, refused with and without a number, or served, and time."""

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

    @rule(ago=st.sampled_from([0.0, 0.5, 2.0, 8.0]))
    def a_call_is_served(self, ago: float) -> None:
        if self.now - ago >= self.model.until():
            self.model.doubled = 0.0
        self.machine.succeeded(self.now - ago)

    @invariant()
    def they_agree(self) -> None:
        assert self.machine.state(self.now) == self.model.state(self.now)
        assert self.machine.left(self.now) == pytest.approx(max(0.0, self.model.until() - self.now))

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
