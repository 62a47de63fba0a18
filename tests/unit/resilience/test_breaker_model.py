"""The breaker's machine against a naive model that counts everything anew from a list of what happened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._machines.breaker import BreakerMachine
from mcp_server_langgraph.resilience._machines.breaker_rules import BreakerRules
from mcp_server_langgraph.resilience._machines.breaker_state import TRANSITIONS, Admission
from tests.support.breaker_model import CHANCE, Call, Model

LEASE = 7.0

maybe_rate = st.sampled_from([None, 0.25, 0.5, 1.0])
some_rules = st.builds(
    BreakerRules,
    fail_max=st.integers(0, 4),
    failure_rate=maybe_rate,
    slow_rate=maybe_rate,
    slow_after=st.sampled_from([1.0, 2.5]),
    window=st.integers(1, 6),
    window_seconds=st.sampled_from([None, None, 5.0, 20.0]),
    minimum_calls=st.integers(1, 4),
    timeout=st.sampled_from([1.0, 5.0]),
    backoff=st.sampled_from([1.0, 2.0]),
    timeout_max=st.sampled_from([1.0, 16.0]),
    half_open_max=st.integers(1, 3),
    success_threshold=st.integers(1, 3),
    lease=st.just(LEASE),
    ramp=st.sampled_from([0.0, 8.0]),
)


class BreakerAgainstModel(RuleBasedStateMachine):
    """Admissions, results early and late, time, changed settings and an operator's hand, in every order."""

    admitted = Bundle("admitted")

    @initialize(rules=some_rules)
    def begin(self, rules: BreakerRules) -> None:
        self.now = 0.0
        self.model = Model(rules)
        self.machine = BreakerMachine(rules, chance=lambda: CHANCE)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_break_passes(self) -> None:
        if self.model.state == "open":
            self.now = max(self.now, self.model.open_until())

    @rule(target=admitted)
    def a_call_comes(self) -> object:
        call, admission = self.model.admit(self.now), self.machine.admit(self.now)
        assert (call is None) == (admission is None)
        return multiple() if call is None else (call, admission)

    @rule(target=admitted, number=st.integers(2, 12))
    def many_calls_come(self, number: int) -> object:
        pairs = [(self.model.admit(self.now), self.machine.admit(self.now)) for _ in range(number)]
        assert [call is None for call, _ in pairs] == [admission is None for _, admission in pairs]
        return multiple(*(pair for pair in pairs if pair[0] is not None))

    @rule(pair=consumes(admitted))
    def it_succeeds(self, pair: tuple[Call, Admission]) -> None:
        self.model.end(pair[0], "good", self.now)
        self.machine.succeeded(pair[1], self.now)

    @rule(pair=consumes(admitted), retry_after=st.sampled_from([None, None, 3.0, 86400.0]))
    def it_fails(self, pair: tuple[Call, Admission], retry_after: float | None) -> None:
        self.model.end(pair[0], "bad", self.now, retry_after)
        self.machine.failed(pair[1], self.now, retry_after)

    @rule(pair=consumes(admitted))
    def it_is_abandoned(self, pair: tuple[Call, Admission]) -> None:
        self.model.end(pair[0], "void", self.now)
        self.machine.abandoned(pair[1])

    @rule(pair=admitted)
    def a_streams_first_item_comes(self, pair: tuple[Call, Admission]) -> None:
        call = pair[0]
        call.answered = call.answered or self.now - call.began < self.model.rules.slow_after
        self.machine.first_item_came(pair[1], self.now)

    @rule(
        changed=st.fixed_dictionaries(
            {},
            optional={
                "fail_max": st.integers(0, 3),
                "timeout": st.sampled_from([1.0, 5.0]),
                "window": st.integers(1, 6),
                "slow_after": st.sampled_from([1.0, 2.5]),
                "minimum_calls": st.integers(1, 4),
                "ramp": st.just(0.0),
            },
        )
    )
    def settings_change(self, changed: dict[str, Any]) -> None:
        rules = replace(self.model.rules, **changed)
        self.model.change(rules)
        self.machine.change(rules)

    def call(self, result: str, seconds: float = 0.0) -> bool:
        """One call from its beginning to its end; whether it was let in."""
        call, admission = self.model.admit(self.now), self.machine.admit(self.now)
        assert (call is None) == (admission is None)
        self.now += seconds
        if call is None or admission is None:
            return False
        self.model.end(call, result, self.now)
        if result == "good":
            self.machine.succeeded(admission, self.now)
        else:
            self.machine.failed(admission, self.now)
        return True

    @rule(
        results=st.lists(st.sampled_from(["good", "bad", "bad"]), min_size=1, max_size=8), slow=st.booleans()
    )
    def calls_one_after_another(self, results: list[str], slow: bool) -> None:
        for result in results:
            self.call(result, self.model.rules.slow_after if slow else 0.0)

    @rule()
    def the_dependency_goes_down_for_good(self) -> None:
        for _ in range(8):
            self.call("bad")

    @rule(then=st.sampled_from(["good", "good", "good", "bad"]))
    def the_break_passes_and_probes_come(self, then: str) -> None:
        self.the_break_passes()
        for _ in range(self.model.rules.success_threshold):
            self.call(then)

    @rule(seconds=st.sampled_from([0.0, 0.0, 2.0, 6.0, 86400.0]))
    def others_find_it_down(self, seconds: float) -> None:
        assert self.machine.told(self.now, seconds) == self.model.told(self.now, seconds)

    @rule(what=st.sampled_from(["closes", *["takes over"] * 2, *["watches"] * 9]))
    def an_operator_acts(self, what: str) -> None:
        if what == "closes":
            self.model.close_by_hand(self.now)
            self.machine.close()
        elif what == "takes over":
            for probe in self.model.probes():
                probe.evicted = True
            if self.model.state == "closed":
                self.model.close_by_hand(self.now)
            self.machine.forget_admissions()

    @rule(automatic=st.sampled_from([True, True, False]), heard=st.booleans())
    def somebody_looks_over_its_shoulder(self, automatic: bool, heard: bool) -> None:
        self.machine.automatic, self.machine.heard = automatic, heard
        self.machine.settle()

    @invariant()
    def they_agree(self) -> None:
        machine, model = self.machine, self.model
        assert machine.state.value == model.state
        assert len(machine.probes) == len(model.probes()) <= model.rules.half_open_max
        assert (machine.closed is not None) == (model.state == "closed")
        assert (machine.ramp is not None) == (model.state == "closed" and model.period.ramped)
        if model.state == "closed":
            assert machine.failures == model.failures()
        if model.state == "half_open":
            assert machine.successes == model.good_probes() < model.rules.success_threshold
        if model.state == "open":
            assert (machine.because, machine.opened_at) == (model.period.because, model.period.began)
            assert (machine.open_until, machine.reopenings) == (model.open_until(), model.period.row)

    @invariant()
    def they_measured_the_same(self) -> None:
        evidence = self.machine.evidence
        assert (evidence is not None) == self.model.rules.measured
        if evidence is None or self.model.state != "closed":
            return
        evidence.window.advance(self.now)
        measured = self.model.measured(self.now)
        assert evidence.window.calls == len(measured)
        assert evidence.window.failures == sum(call.result == "bad" for call, _ in measured)
        assert evidence.window.slow == sum(slow for _, slow in measured)
        assert len(evidence.running) + len(evidence.overdue) == len(self.model.in_flight())

    @invariant()
    def the_door_stands_open_exactly_while_nothing_has_to_be_asked(self) -> None:
        machine, model = self.machine, self.model
        free = machine.automatic and not model.period.ramped and model.rules.slow_rate is None
        assert machine.door is (machine.closed if free else None)
        silent = model.state == "closed" and not model.failures() and not model.rules.measured
        assert machine.quiet == (machine.door is not None and silent and not machine.heard)

    @invariant()
    def only_known_transitions_happen(self) -> None:
        known = {(before, after) for before, after, _ in TRANSITIONS}
        by_hand = {("closed", "closed"), ("open", "closed"), ("half_open", "closed")}
        assert self.model.seen - by_hand <= known

    @invariant()
    def it_says_how_long_every_call_is_refused(self) -> None:
        left = max(0.0, self.model.open_until() - self.now) if self.model.state == "open" else 0.0
        assert self.machine.refuses_for(self.now) == left
        if self.model.state == "half_open":
            assert self.machine.retry_after(self.now) is None
        elif not (self.model.state == "closed" and self.model.period.ramped):
            assert self.machine.retry_after(self.now) == left


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
