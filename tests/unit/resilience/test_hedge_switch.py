"""The switch against a model that keeps every hedge and looks at all of them each time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_server_langgraph.resilience._machines.hedge_switch import ENOUGH, OFF, ON, RECENT, REST, HedgeSwitch


class SwitchMachine(RuleBasedStateMachine):
    """Hedges begin and end in any order, while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.switch = HedgeSwitch()
        self.now = 0.0
        self.flying: list[tuple[int, int]] = []  # the switch's generation, and the model's
        self.period = 0  # the model's generation: how often hedging was switched on again
        self.off_since: float | None = None
        self.history: list[tuple[int, bool]] = []

    @rule(seconds=st.sampled_from([0.1, 1.0, REST / 2, REST]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 30))
    def hedges_begin(self, count: int) -> None:
        for _ in range(count):
            generation = self.switch.begin(self.now)
            if self.off_since is not None and self.now >= self.off_since + REST:
                self.off_since = None
                self.period += 1
            assert (generation is None) == (self.off_since is not None)
            if generation is not None:
                self.flying.append((generation, self.period))

    @rule(
        ends=st.lists(st.sampled_from([False] * 19 + [True]), max_size=40),
        which=st.integers(0, 1000),
    )
    def hedges_end(self, ends: list[bool], which: int) -> None:
        for won in ends:
            if not self.flying:
                return
            generation, period = self.flying.pop(which % len(self.flying))
            switched = self.switch.ended(generation, won, self.now)
            assert switched == self._switches(period, won)

    def _switches(self, period: int, won: bool) -> bool:
        if period != self.period or self.off_since is not None:
            return False
        self.history.append((period, won))
        judged = [won for of, won in self.history if of == period][-RECENT:]
        if len(judged) >= ENOUGH and sum(judged) / len(judged) < 0.05:
            self.off_since = self.now
            return True
        return False

    @invariant()
    def the_state_is_the_models(self) -> None:
        resting = self.off_since is not None and self.now < self.off_since + REST
        assert self.switch.state(self.now) == (OFF if resting else ON)


TestSwitch = SwitchMachine.TestCase
TestSwitch.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def lose(switch: HedgeSwitch, count: int, now: float = 0.0) -> list[bool]:
    generation = switch.begin(now)
    assert generation is not None
    return [switch.ended(generation, False, now) for _ in range(count)]


def test_twenty_hedges_without_a_win_switch_it_off_for_half_a_minute() -> None:
    switch = HedgeSwitch()
    assert lose(switch, 20) == [False] * 19 + [True]
    assert [switch.begin(now) for now in (0.0, 29.9)] == [None, None]
    assert [switch.state(now) for now in (29.9, 30.0)] == [OFF, ON]
    assert switch.begin(30.0) == 1


def test_one_win_in_twenty_is_enough() -> None:
    switch = HedgeSwitch()
    switch.ended(0, True, 0.0)
    assert lose(switch, 19) == [False] * 19
    assert lose(switch, 1) == [True]


def test_old_wins_do_not_excuse_for_ever() -> None:
    switch = HedgeSwitch()
    for _ in range(1000):
        switch.ended(0, True, 0.0)
    assert any(lose(switch, 97))


def test_of_the_last_hundred_hedges_the_oldest_is_forgotten_first() -> None:
    switch = HedgeSwitch()
    for won in [True] + [False] * 19 + [True] * 4 + [False] * 76:
        assert not switch.ended(0, won, 0.0)
    assert switch.ended(0, False, 0.0), "four of a hundred, now that the first is no longer one of them"


def test_each_rest_begins_another_generation() -> None:
    switch = HedgeSwitch()
    for rest in range(3):
        now = rest * REST
        assert switch.begin(now) == rest
        assert lose(switch, 20, now)[-1]


def test_what_ends_after_the_rest_began_before_it_and_has_no_say() -> None:
    switch = HedgeSwitch()
    lose(switch, 20)
    assert switch.begin(30.0) == 1
    assert not any(switch.ended(0, False, 31.0) for _ in range(50))
    assert switch.state(31.0) == ON
    assert lose(switch, 20, 31.0)[-1]


def test_wins_from_before_the_rest_excuse_nothing_after_it() -> None:
    switch = HedgeSwitch()
    switch.ended(0, True, 0.0)
    assert lose(switch, 20)[-1]
    assert lose(switch, 20, 30.0)[-1]
