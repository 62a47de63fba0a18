"""The quota's machine against a model that works out everything anew from what was heard last."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._machines.quota import NOTHING, PERIOD, Amounts, QuotaMachine
from mcp_server_langgraph.resilience._machines.quota_headers import Reading

LIMIT = 100.0


@dataclass
class Request:
    """A call, as the model sees it: when it began, in which order, what it took, and when that changed."""

    order: int
    tokens: float
    began: float
    ended: float = math.inf
    unused: float = 0.0


@dataclass
class Model:
    gradual: bool
    requests: list[Request] = field(default_factory=list)
    heard: tuple[int, float, float, float] | None = None  # order, when, remaining, rate
    reset_at: float = -math.inf
    under_way_then: list[Request] = field(default_factory=list)
    log: list[tuple[float, float, Request | None]] = field(default_factory=list)  # when, taken, of whom

    def hear(self, order: int, now: float, remaining: float, reset: float) -> None:
        if self.heard is not None and order < self.heard[0]:
            return
        missing = LIMIT - remaining
        rate = LIMIT / PERIOD if self.heard is None else self.heard[3]
        if missing and reset and (missing >= LIMIT / 100 or self.heard is None):
            rate = missing / reset
        pending = sum(each.tokens for each in self.requests if each.order > order and each.ended == math.inf)
        self.heard = (order, now, remaining - pending, rate)
        self.reset_at = now + (reset or missing / rate)
        self.log = []

    def left(self, now: float) -> float:
        """From the last answer on, event by event."""
        assert self.heard is not None
        _, at, left, rate = self.heard
        reset_at = self.reset_at
        for when, taken, _ in [*self.log, (now, 0.0, None)]:
            if self.gradual:
                left = min(LIMIT, left + (when - at) * rate)
            elif when >= reset_at:
                left = LIMIT
            if (when, taken) != (now, 0.0) and not self.gradual and when >= reset_at:
                reset_at = when + PERIOD
            at = when
            left = min(LIMIT, left - taken)
        return left


class QuotaAgainstModel(RuleBasedStateMachine):
    """Calls, their answers early and late, their ends, and time."""

    under_way = Bundle("under_way")

    @initialize(gradual=st.booleans())
    def begin(self, gradual: bool) -> None:
        self.now = 0.0
        self.model = Model(gradual)
        self.machine = QuotaMachine(gradual=gradual)

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=under_way, tokens=st.sampled_from([1.0, 10.0, 60.0, 150.0]))
    def a_call_comes(self, tokens: float) -> object:
        cost = Amounts((0.0, tokens, 0.0, 0.0))
        allowed = self.model.heard is None or self.model.left(self.now) >= min(tokens, LIMIT) - 1e-3
        assert (self.machine.delay(cost, self.now, NOTHING) == 0) == allowed
        order = self.machine.take(cost, self.now)
        assert bool(order) == allowed
        if not order:
            return multiple()
        request = Request(order, tokens, self.now)
        self.model.requests.append(request)
        self.model.log.append((self.now, tokens, request))
        return request

    @rule(
        request=under_way,
        remaining=st.sampled_from([0.0, 30.0, 99.5, LIMIT]),
        reset=st.sampled_from([0.0, 1.0, 60.0]),
    )
    def it_is_answered(self, request: Request, remaining: float, reset: float) -> None:
        self.model.hear(request.order, self.now, remaining, reset)
        self.machine.heard({"tokens": Reading(LIMIT, remaining, reset)}, self.now, request.order)

    @rule(request=consumes(under_way), share=st.sampled_from([None, 0.0, 0.5, 2.0]))
    def it_ends(self, request: Request, share: float | None) -> None:
        request.ended = self.now
        used = None if share is None else Amounts((0.0, request.tokens * share, 0.0, 0.0))
        self.machine.ended(request.order, used, self.now)
        if share is not None and (self.model.heard is None or self.model.heard[0] < request.order):
            self.model.log.append((self.now, -request.tokens * (1 - share), request))

    @invariant()
    def they_agree(self) -> None:
        if self.model.heard is None:
            assert self.machine.windows == {}
            return
        window = self.machine.windows["tokens"]
        assert window.left(self.now) == pytest.approx(self.model.left(self.now), abs=1e-6)
        assert window.limit == LIMIT


TestQuotaAgainstModel = QuotaAgainstModel.TestCase
TestQuotaAgainstModel.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def told(machine: QuotaMachine, remaining: float, reset: float = 60.0, **at: float) -> None:
    machine.heard({"tokens": Reading(LIMIT, remaining, reset)}, at.get("now", 0.0), int(at.get("order", 0)))


def test_the_delay_is_when_enough_has_come_in() -> None:
    machine = QuotaMachine()
    told(machine, 40.0)
    cost, ahead = Amounts((1.0, 70.0, 70.0, 0.0)), Amounts((1.0, 10.0, 10.0, 0.0))
    assert machine.delay(cost, 0.0, NOTHING) == pytest.approx(30.0)
    assert machine.delay(cost, 0.0, ahead) == pytest.approx(40.0)
    assert not machine.take(cost, 29.9)
    assert machine.take(cost, 30.0)


def test_in_fixed_windows_nothing_comes_before_the_reset() -> None:
    machine = QuotaMachine(gradual=False)
    told(machine, 40.0)
    cost = Amounts((1.0, 70.0, 70.0, 0.0))
    assert machine.delay(cost, 10.0, NOTHING) == pytest.approx(50.0)
    assert not machine.take(cost, 59.9)
    assert machine.take(cost, 60.0)
    assert machine.windows["tokens"].left(60.0) == 30.0


def test_there_must_be_enough_of_everything() -> None:
    machine = QuotaMachine()
    machine.heard({"requests": Reading(10, 0, 5.0), "tokens": Reading(100, 100, 0.0)}, 0.0)
    assert not machine.take(Amounts((1.0, 1.0, 1.0, 0.0)), 0.0)
    assert machine.windows["tokens"].left(0.0) == 100.0
    assert machine.delay(Amounts((1.0, 1.0, 1.0, 0.0)), 0.0, NOTHING) == pytest.approx(0.5)


def test_a_hold_is_only_ever_extended() -> None:
    machine = QuotaMachine()
    machine.hold(10.0, 0.0)
    machine.hold(1.0, 5.0)
    assert machine.delay(NOTHING, 5.0, NOTHING) == 5.0
    assert machine.take(NOTHING, 10.0)


def test_a_call_that_was_not_made_leaves_no_trace() -> None:
    machine = QuotaMachine()
    told(machine, 100.0)
    cost = Amounts((1.0, 30.0, 30.0, 0.0))
    order = machine.take(cost, 0.0)
    machine.give_back(cost, order, 0.0, 0.0)
    told(machine, 100.0, order=0)
    assert machine.windows["tokens"].left(0.0) == 100.0
