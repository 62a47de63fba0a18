"""The breaker's machine against a naive model that numbers its periods, and its transitions one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._breaker import TRANSITIONS, Admission, BreakerMachine, State

LEASE = 7.0


@dataclass
class Right:
    """What a call was let in with, as the model sees it."""

    period: int
    until: float | None = None  # a probe's lease


@dataclass
class Model:
    """Every period has a number; a right counts only in its own period."""

    fail_max: int
    open_for: float
    half_open_max: int
    success_threshold: int
    state: str = "closed"
    period: int = 0
    failures: int = 0
    successes: int = 0
    opened_at: float = 0.0
    probes: list[Right] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def go(self, state: str, now: float = 0.0) -> None:
        self.seen.add((self.state, state))
        self.state = state
        self.period += 1
        self.probes = []
        self.successes = 0
        if state == "open":
            self.opened_at = now
        if state == "closed":
            self.failures = 0

    def admit(self, now: float) -> Right | None:
        if self.state == "closed":
            return Right(self.period)
        if self.state == "open":
            if now < self.opened_at + self.open_for:
                return None
            self.go("half_open")
        if len(self.probes) == self.half_open_max:
            self.probes = [probe for probe in self.probes if probe.until is not None and probe.until > now]
        if len(self.probes) == self.half_open_max:
            return None
        self.probes.append(Right(self.period, now + LEASE))
        return self.probes[-1]

    def has_a_say(self, right: Right) -> bool:
        """Whether the right is of this period; a probe's place is free again in any case."""
        if right.until is None:
            return right.period == self.period
        mine = any(probe is right for probe in self.probes)
        self.probes = [probe for probe in self.probes if probe is not right]
        return mine

    def succeeded(self, right: Right) -> None:
        if not self.has_a_say(right):
            return
        if self.state == "closed":
            self.failures = 0
            return
        self.successes += 1
        if self.successes == self.success_threshold:
            self.go("closed")

    def failed(self, right: Right, now: float) -> None:
        if not self.has_a_say(right):
            return
        self.failures += self.state == "closed"
        if self.state == "half_open" or self.failures >= self.fail_max:
            self.go("open", now)


class BreakerAgainstModel(RuleBasedStateMachine):
    """Admissions, results early and late, time, and an operator's hand, in every order."""

    admitted = Bundle("admitted")

    @initialize(
        fail_max=st.integers(1, 3),
        half_open_max=st.integers(1, 3),
        success_threshold=st.integers(1, 3),
        open_for=st.sampled_from([1.0, 5.0]),
    )
    def begin(self, fail_max: int, half_open_max: int, success_threshold: int, open_for: float) -> None:
        self.now = 0.0
        self.model = Model(fail_max, open_for, half_open_max, success_threshold)
        self.machine = BreakerMachine(
            fail_max, open_for, half_open_max=half_open_max, success_threshold=success_threshold, lease=LEASE
        )

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=admitted)
    def a_call_comes(self) -> object:
        right, admission = self.model.admit(self.now), self.machine.admit(self.now)
        assert (right is None) == (admission is None)
        return multiple() if right is None else (right, admission)

    @rule(call=consumes(admitted))
    def it_succeeds(self, call: tuple[Right, Admission]) -> None:
        self.model.succeeded(call[0])
        self.machine.succeeded(call[1])

    @rule(call=consumes(admitted))
    def it_fails(self, call: tuple[Right, Admission]) -> None:
        self.model.failed(call[0], self.now)
        self.machine.failed(call[1], self.now)

    @rule(call=consumes(admitted))
    def it_is_abandoned(self, call: tuple[Right, Admission]) -> None:
        self.model.has_a_say(call[0])
        self.machine.abandoned(call[1])

    @rule()
    def the_dependency_goes_down(self) -> None:
        for _ in range(self.model.fail_max):
            right, admission = self.model.admit(self.now), self.machine.admit(self.now)
            if right is not None and admission is not None:
                self.model.failed(right, self.now)
                self.machine.failed(admission, self.now)

    @rule()
    def the_open_time_passes(self) -> None:
        self.now += self.model.open_for

    @rule(fail_max=st.integers(1, 3), open_for=st.sampled_from([1.0, 5.0]))
    def settings_change(self, fail_max: int, open_for: float) -> None:
        self.machine.fail_max = self.model.fail_max = fail_max
        self.machine.open_for = self.model.open_for = open_for

    @rule()
    def an_operator_closes_it(self) -> None:
        self.machine.close()
        self.model.state = "closed"
        self.model.go("closed")

    @rule()
    def an_operator_takes_over(self) -> None:
        self.machine.forget_admissions()
        self.model.probes = []
        if self.model.state == "closed":
            self.model.go("closed")

    @rule(automatic=st.booleans(), heard=st.booleans())
    def somebody_looks_over_its_shoulder(self, automatic: bool, heard: bool) -> None:
        self.machine.automatic, self.machine.heard = automatic, heard
        self.machine.settle()

    @invariant()
    def they_agree(self) -> None:
        machine, model = self.machine, self.model
        assert machine.state.value == model.state
        assert len(machine.probes) == len(model.probes) <= model.half_open_max
        if model.state == "closed":
            assert machine.failures == model.failures
        if model.state == "half_open":
            assert machine.successes == model.successes < model.success_threshold
        assert (machine.closed is not None) == (model.state == "closed")

    @invariant()
    def the_door_stands_open_exactly_while_nothing_has_to_be_asked(self) -> None:
        machine = self.machine
        assert machine.door is (machine.closed if machine.automatic else None)
        assert machine.quiet == (machine.door is not None and self.model.failures == 0 and not machine.heard)

    @invariant()
    def only_known_transitions_happen(self) -> None:
        known = {(before, after) for before, after, _ in TRANSITIONS}
        assert self.model.seen - {("closed", "closed")} <= known

    @invariant()
    def retry_after_is_when_a_call_is_let_in(self) -> None:
        wait = self.machine.retry_after(self.now)
        if self.model.state == "open":
            assert wait == max(0.0, self.model.opened_at + self.model.open_for - self.now)
        else:
            assert wait is None


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def opened(**options: int) -> BreakerMachine:
    """A breaker that opened at 0 for 10 seconds, with a lease of 10."""
    machine = BreakerMachine(1, 10.0, lease=10.0, **options)
    admission = machine.admit(0.0)
    assert admission is not None
    machine.failed(admission, 0.0)
    return machine


def probe(machine: BreakerMachine, now: float) -> Admission:
    admission = machine.admit(now)
    assert admission is not None
    return admission


def test_it_is_open_up_to_the_very_end_of_its_time() -> None:
    machine = opened()
    assert machine.admit(9.999) is None
    assert machine.admit(10.0) is not None


def test_a_success_between_failures_starts_the_count_anew() -> None:
    machine = BreakerMachine(2, 10.0)
    for _ in range(3):
        machine.failed(probe(machine, 0.0), 0.0)
        machine.succeeded(probe(machine, 0.0))
    assert machine.state is State.CLOSED


def test_probes_of_an_earlier_half_open_period_do_not_count_in_the_next() -> None:
    machine = opened(half_open_max=3, success_threshold=2)
    early = [probe(machine, 10.0) for _ in range(3)]
    machine.failed(early[0], 11.0)
    late = probe(machine, 21.0)
    machine.succeeded(early[1])
    assert (machine.state, machine.successes, len(machine.probes)) == (State.HALF_OPEN, 0, 1)
    machine.failed(early[2], 21.0)
    assert machine.state is State.HALF_OPEN
    machine.succeeded(late)
    machine.succeeded(probe(machine, 21.0))
    assert machine.state is State.CLOSED


def test_a_failed_probe_takes_the_successes_before_it_away() -> None:
    machine = opened(success_threshold=2)
    machine.succeeded(probe(machine, 10.0))
    machine.failed(probe(machine, 10.0), 10.0)
    machine.succeeded(probe(machine, 20.0))
    assert machine.state is State.HALF_OPEN
    machine.succeeded(probe(machine, 20.0))
    assert machine.state is State.CLOSED


def test_a_good_probe_beside_a_failed_one_does_not_close() -> None:
    machine = opened(half_open_max=2)
    good, bad = probe(machine, 10.0), probe(machine, 10.0)
    machine.failed(bad, 10.0)
    machine.succeeded(good)
    assert machine.state is State.OPEN


@pytest.mark.parametrize("state", ["open", "half_open", "closed"])
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_call_admitted_before_the_breaker_opened_changes_nothing_after(state: str, succeeds: bool) -> None:
    machine = BreakerMachine(1, 10.0, lease=10.0)
    stale = probe(machine, 0.0)
    machine.failed(probe(machine, 0.0), 0.0)
    if state != "open":
        first = probe(machine, 10.0)
        if state == "closed":
            machine.succeeded(first)
    before = (machine.state, machine.failures, machine.successes, len(machine.probes))
    if succeeds:
        machine.succeeded(stale)
    else:
        machine.failed(stale, 10.0)
    assert (machine.state, machine.failures, machine.successes, len(machine.probes)) == before
    assert machine.state.value == state


def test_a_hung_probe_loses_its_place_when_its_lease_is_over() -> None:
    machine = opened()
    hung = probe(machine, 10.0)
    assert machine.admit(19.9) is None
    second = probe(machine, 20.0)
    machine.failed(hung, 20.0)
    assert machine.state is State.HALF_OPEN
    machine.succeeded(second)
    assert machine.state is State.CLOSED
