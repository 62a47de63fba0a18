"""The token bucket against a model that replays its whole history, and its line against one that ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from mcp_server_langgraph.resilience._machines.tokens import TokenBucket


@dataclass
class Event:
    """Something that happened to the bucket: permits taken, or another rate."""

    at: float
    taken: float = 0.0
    rate: tuple[float, float] | None = None


@dataclass
class Replay:
    """A bucket that remembers everything and starts anew for each question. Undoing is striking out."""

    rate: tuple[float, float]  # permits a second, and how many it holds
    history: list[Event] = field(default_factory=list)

    def level(self, now: float) -> float:
        (per_second, holds), at = self.rate, 0.0
        level = holds
        for event in [*self.history, Event(now)]:
            level = min(holds, level + (event.at - at) * per_second)
            at = event.at
            level -= event.taken
            if event.rate is not None:
                per_second, holds = event.rate
                level = min(level, holds)
        return level

    def holds(self) -> float:
        rates = [event.rate for event in self.history if event.rate is not None]
        return ([self.rate, *rates])[-1][1]


RATES = st.tuples(st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([1.0, 3.0, 8.0]))
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])


class BucketAgainstReplay(RuleBasedStateMachine):
    """Calls, reservations, settlements, another rate, and time, in every order."""

    reserved = Bundle("reserved")

    @initialize(rate=RATES)
    def begin(self, rate: tuple[float, float]) -> None:
        self.now = 0.0
        self.model = Replay(rate)
        self.bucket = TokenBucket(rate[0], 1.0, rate[1])

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    def allowed(self, weight: float) -> bool:
        needed = min(weight, self.model.holds())
        return weight == 0 or self.model.level(self.now) >= needed - 1e-6

    @rule(weight=WEIGHTS)
    def a_call_comes(self, weight: float) -> None:
        assert (self.bucket.delay(weight, self.now) == 0) == self.allowed(weight)
        taken = self.bucket.take(weight, self.now)
        assert bool(taken) == self.allowed(weight)
        if taken:
            self.model.history.append(Event(self.now, weight))

    @rule(used=WEIGHTS)
    def a_call_is_charged_afterwards(self, used: float) -> None:
        self.bucket.charge(used, self.now)
        self.model.history.append(Event(self.now, used))

    @rule(target=reserved, weight=WEIGHTS)
    def a_reservation_is_made(self, weight: float) -> object:
        self.bucket.opened()
        mark = self.bucket.take(weight, self.now)
        if not mark:
            self.bucket.closed()
            return multiple()
        event = Event(self.now, weight)
        self.model.history.append(event)
        return event, mark

    @rule(reservation=consumes(reserved), share=st.sampled_from([0.0, 0.5, 1.0]))
    def it_used_a_share(self, reservation: tuple[Event, int], share: float) -> None:
        event, mark = reservation
        self.bucket.refund(event.taken * (1 - share), mark, self.now)
        self.bucket.closed()
        event.taken *= share

    @rule(rate=RATES)
    def the_rate_changes(self, rate: tuple[float, float]) -> None:
        if self.bucket.full_at == -math.inf:
            self.model = Replay(rate)
        else:
            self.model.history.append(Event(self.now, rate=rate))
        self.bucket.change(rate[0], 1.0, rate[1], self.now)

    @invariant()
    def they_hold_the_same(self) -> None:
        assert self.bucket.level(self.now) == pytest.approx(self.model.level(self.now), abs=1e-6)


TestBucketAgainstReplay = BucketAgainstReplay.TestCase
TestBucketAgainstReplay.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 2.5]), st.sampled_from([1.0, 2.0, 6.0]))))
@settings(max_examples=50)
def test_what_it_says_of_the_delay_is_when_the_permits_are_there(script: list[tuple[float, float]]) -> None:
    bucket, now = TokenBucket(1.0, 1.0, 3.0), 0.0
    for pause, weight in script:
        now += pause
        delay = bucket.delay(weight, now)
        if delay:
            assert not bucket.take(weight, now + delay * 0.999 - 1e-6)
        assert bucket.take(weight, now + delay)
        now += delay


@given(st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=1, max_size=8))
@settings(max_examples=50)
def test_the_delay_behind_others_is_the_time_after_theirs(weights: list[float]) -> None:
    predicted, bucket, now = TokenBucket(2.0, 1.0, 3.0), TokenBucket(2.0, 1.0, 3.0), 0.0
    for index, weight in enumerate(weights):
        now += bucket.delay(weight, now)
        assert predicted.delay(weight, 0.0, sum(weights[:index])) == pytest.approx(now, abs=1e-6)
        assert bucket.take(weight, now)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, 4.0]), st.sampled_from([1.0, 2.0]), st.booleans()),
        max_size=20,
    )
)
@settings(max_examples=60)
def test_what_is_given_back_never_leaves_more_than_if_it_had_not_been_taken(
    script: list[tuple[float, float, bool]],
) -> None:
    bucket, model, now = TokenBucket(1.0, 1.0, 3.0), Replay((1.0, 3.0)), 0.0
    open_events: list[Event] = []
    for pause, weight, give_back in script:
        now += pause
        if give_back and open_events:
            event = open_events.pop(0)
            bucket.give_back(event.taken, 1, event.at, now)
            event.taken = 0.0
        elif bucket.take(weight, now):
            event = Event(now, weight)
            model.history.append(event)
            open_events.append(event)
        assert bucket.level(now) <= model.level(now) + 1e-6


def test_a_weight_beyond_what_it_holds_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    bucket = TokenBucket(1.0, 1.0, 3.0)
    assert bucket.take(1.0, 0.0)
    assert not bucket.take(10.0, 0.0)
    assert bucket.delay(10.0, 0.0) == 1.0
    assert bucket.take(10.0, 1.0)
    assert bucket.level(1.0) == -7.0
    assert bucket.delay(1.0, 1.0) == 8.0


def test_a_bucket_that_has_run_for_a_year_is_exact() -> None:
    now = 31_536_000.123
    bucket = TokenBucket(1000.0, 60.0, 1.0)
    for _ in range(1000):
        assert bucket.take(1.0, now)
        assert not bucket.take(1.0, now)
        now += bucket.delay(1.0, now)
    assert now - 31_536_000.123 == pytest.approx(60.0, abs=1e-3)
