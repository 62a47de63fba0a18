"""A given limit against a model that keeps every call there ever was, and counts those of the last minute."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._machines.quota import NOTHING, Amounts, QuotaMachine
from mcp_server_langgraph.resilience._machines.quota_headers import Reading
from mcp_server_langgraph.resilience._machines.quota_minute import Minute

LIMIT = 100.0


def tokens(amount: float) -> Amounts:
    return Amounts((1.0, amount, 0.0, 0.0))


@dataclass(eq=False)
class Call:
    order: int
    at: float
    taken: float


class KnownLimitAgainstModel(RuleBasedStateMachine):
    """Calls, what they really used, and time. All numbers are exact in binary."""

    under_way = Bundle("under_way")

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.counted: list[Call] = []
        self.machine = QuotaMachine(limits={"tokens": LIMIT})

    def used(self, since: float, until: float) -> float:
        return sum(call.taken for call in self.counted if since < call.at <= until)

    def left(self, now: float) -> float:
        return LIMIT - self.used(now - 60.0, now)

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 59.5, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=under_way, amount=st.sampled_from([1.0, 10.0, 60.0, 100.0, 150.0]))
    def a_call_comes(self, amount: float) -> object:
        allowed = self.left(self.now) >= min(amount, LIMIT)
        delay = self.machine.delay(tokens(amount), self.now, NOTHING)
        assert (delay == 0) == allowed
        order = self.machine.take(tokens(amount), self.now)
        assert bool(order) == allowed
        if not order:
            assert self.left(self.now + delay) >= min(amount, LIMIT), "then there is enough"
            assert self.left(self.now + delay - 0.25) < min(amount, LIMIT), "and not before"
            return multiple()
        call = Call(order, self.now, amount)
        self.counted.append(call)
        return call

    @rule(call=consumes(under_way), used=st.sampled_from([None, 0.0, 0.5, 1.0]))
    def it_ends(self, call: Call, used: float | None) -> None:
        self.machine.ended(call.order, None if used is None else tokens(call.taken * used), self.now)
        call.taken *= 1.0 if used is None else used

    @rule(call=consumes(under_way), more=st.sampled_from([1.0, 50.0]))
    def it_used_more_than_was_thought(self, call: Call, more: float) -> None:
        self.machine.ended(call.order, tokens(call.taken + more), self.now)
        self.counted.append(Call(0, self.now, more))

    @invariant()
    def they_agree(self) -> None:
        assert self.machine.windows["tokens"].left(self.now) == self.left(self.now)


TestKnownLimitAgainstModel = KnownLimitAgainstModel.TestCase
TestKnownLimitAgainstModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


class NeverTooManyInAMinute(RuleBasedStateMachine):
    """Calls that use no more than was thought, however they come, end, and are given back: no 60 seconds hold more
    than the limit of them.
    """

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.wire: list[tuple[float, int]] = []
        self.machine = QuotaMachine(limits={"requests": 5})

    @rule(seconds=st.floats(0.01, 61.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(calls=st.integers(1, 8), made=st.booleans())
    def calls_come(self, calls: int, made: bool) -> None:
        for _ in range(calls):
            order = self.machine.take(tokens(1.0), self.now)
            if order and made:
                self.wire.append((self.now, order))
            elif order:
                self.machine.give_back(tokens(1.0), order, self.now, self.now)

    @invariant()
    def no_minute_holds_more(self) -> None:
        times = [at for at, _ in self.wire]
        for first, sixth in zip(times, times[5:], strict=False):
            assert sixth - first >= 60.0 - 1e-5


TestNeverTooManyInAMinute = NeverTooManyInAMinute.TestCase
TestNeverTooManyInAMinute.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def after(*taken: tuple[float, float]) -> Minute:
    """A limit of 100, of which so much was taken at these times."""
    minute = Minute(LIMIT)
    for at, amount in taken:
        minute.take(amount, at)
    return minute


def test_all_of_it_is_there_from_the_start_and_again_a_minute_after_it_was_taken() -> None:
    minute = after((10.0, 60.0), (30.0, 40.0))
    assert [minute.left(now) for now in (30.0, 69.75, 70.0, 89.75, 90.0)] == [0.0, 0.0, 60.0, 60.0, 100.0]


@pytest.mark.parametrize(
    ("amount", "ahead", "delay"),
    [
        (10.0, 0.0, 0.0),
        (20.0, 0.0, 0.0),
        (20.5, 0.0, 20.0),
        (50.0, 0.0, 20.0),
        (50.5, 0.0, 40.0),
        (100.0, 0.0, 40.0),
        (500.0, 0.0, 40.0),  # more than the limit needs all of it
        (10.0, 10.0, 0.0),
        (10.0, 40.0, 20.0),
        (10.0, 90.0, 40.0),
        (10.0, 110.0, 60.0),  # those ahead take what is left now, and that comes back in a minute
        (10.0, 111.0, 80.0),
        (100.0, 200.0, 160.0),
    ],
)
def test_the_delay_is_when_enough_of_what_was_taken_is_a_minute_old(
    amount: float, ahead: float, delay: float
) -> None:
    assert after((10.0, 30.0), (30.0, 50.0)).delay(amount, 50.0, ahead) == delay


def test_what_is_missing_by_a_rounding_is_not_missing() -> None:
    minute = after((0.0, 90.0))
    assert minute.delay(10.00005, 1.0, 0.0) == 0.0
    assert minute.delay(10.001, 1.0, 0.0) == 59.0


def test_it_tells_what_an_answer_would_say_that_came_now() -> None:
    minute = after((10.0, 30.0), (30.0, 90.0))
    assert minute.reading(50.0) == Reading(100, 0, 40)
    assert minute.reading(75.0) == Reading(100, 10, 15)
    assert minute.reading(90.0) == Reading(100, 100, 0)
    minute = after((10.0, 30.0), (30.0, 5.0))
    minute.settle(5.0, 30.0, 30.0)
    assert minute.reading(30.0) == Reading(100, 70, 40), "what was given back whole is not waited for"


def test_calls_of_one_moment_give_back_each_its_own() -> None:
    minute = after((10.0, 30.0), (10.0, 20.0))
    minute.settle(30.0, 10.0, 20.0)
    assert minute.left(20.0) == 80.0
    minute.settle(5.0, 10.0, 20.0)
    assert minute.left(20.0) == 85.0


def test_what_is_given_back_is_what_that_call_took() -> None:
    minute = after((10.0, 30.0), (20.0, 20.0))
    minute.settle(0.5, 20.0, 30.0)
    assert [minute.left(now) for now in (30.0, 70.0, 80.0)] == [50.5, 80.5, 100.0]


def test_a_call_that_took_longer_than_a_minute_gives_nothing_back() -> None:
    minute = after((10.0, 30.0), (80.0, 20.0))
    minute.settle(30.0, 10.0, 80.0)
    assert minute.left(80.0) == 80.0


def test_what_others_give_back_is_the_oldest_and_never_more_than_was_taken() -> None:
    minute = after((10.0, 30.0), (20.0, 20.0), (30.0, 10.0))
    minute.take(-40.0, 40.0)
    assert [minute.left(now) for now in (40.0, 69.0, 75.0, 80.0, 90.0)] == [80.0, 80.0, 80.0, 90.0, 100.0]
    minute.settle(20.0, 20.0, 40.0)
    assert minute.left(40.0) == 90.0
    minute.take(-500.0, 40.0)
    assert minute.left(40.0) == 100.0


def test_what_is_over_a_minute_old_is_forgotten() -> None:
    minute = after(*((float(second), 0.5) for second in range(1000)))
    assert len(minute._taken) == 60


def test_calls_of_a_quarter_second_count_together_from_its_end_on() -> None:
    minute = after((10.1, 10.0), (10.2, 20.0), (10.25, 30.0), (10.3, 5.0))
    assert [minute.left(now) for now in (10.3, 70.2, 70.25, 70.49, 70.5)] == [35.0, 35.0, 95.0, 95.0, 100.0]
    assert minute.delay(50.0, 20.25, 0.0) == 50.0
    minute.settle(20.0, 10.2, 30.0)
    assert minute.left(70.2) == 55.0
    assert len(minute._taken) == 2


def machine() -> QuotaMachine:
    return QuotaMachine(limits={"requests": 3, "tokens": LIMIT})


def test_there_must_be_enough_of_each_limit() -> None:
    known = machine()
    assert known.take(tokens(60.0), 0.0)
    assert not known.take(tokens(60.0), 1.0)
    assert known.delay(tokens(60.0), 1.0, NOTHING) == 59.0
    assert known.take(tokens(1.0), 1.0)
    assert known.take(tokens(1.0), 2.0)
    assert known.delay(tokens(1.0), 3.0, NOTHING) == 57.0, "the fourth request"


def test_an_answer_that_tells_what_is_left_takes_the_limits_place() -> None:
    known = machine()
    order = known.take(tokens(60.0), 0.0)
    later = known.take(tokens(40.0), 0.0)
    known.heard({"tokens": Reading(1000, 900, 6.0)}, 1.0, order)
    assert known.windows["tokens"].left(1.0) == 860.0, "less what began after the call that was answered"
    assert known.windows["requests"].left(1.0) == 1.0, "of which it told nothing"
    known.ended(order, tokens(10.0), 2.0)
    known.ended(later, tokens(20.0), 1.0)
    assert known.windows["tokens"].left(1.0) == 880.0, "settled where the answer did not tell it"
    known.heard({"tokens": Reading(1000, 500, 30.0)}, 10.0)
    assert known.windows["tokens"].left(40.0) == 1000.0, "which comes in steadily"
    assert known.windows["tokens"].delay(1000.0, 25.0, 0.0) == pytest.approx(15.0)


def test_an_answer_that_tells_nothing_that_can_be_used_leaves_the_limit() -> None:
    known = machine()
    known.heard({"tokens": Reading(None, 0.0, None)}, 0.0)
    assert known.windows["tokens"].limit == LIMIT
    assert known.windows["tokens"].left(0.0) == LIMIT


def test_others_who_share_it_take_of_it_and_hear_what_is_left() -> None:
    known = machine()
    known.told(tokens(70.0), 0.0)
    assert known.readings(15.0) == {"requests": Reading(3, 2, 45), "tokens": Reading(LIMIT, 30, 45)}
    assert known.delay(tokens(31.0), 15.0, NOTHING) == 45.0
    assert math.isinf(known.held_until)
