"""The line before an adaptive limit against a naive model: one list, sorted and searched anew each time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcp_server_langgraph.resilience._machines.admission_queue import (
    AdmissionQueue,
    Entry,
    Lane,
)
from mcp_server_langgraph.resilience._machines.places import Places
from mcp_server_langgraph.resilience._machines.shares import Shares


class Caller:
    """Somebody in the line; notes what becomes of it."""

    def __init__(self, number: int, level: int, end: float, share: deque[None]) -> None:
        self.number = number
        self.level = level
        self.end = end
        self.late = "late"
        self.share: deque[None] | None = share
        self.why: str | None = None
        self.woken = 0

    def wake(self) -> bool:
        assert self.share is not None
        self.share.append(None)
        self.woken += 1
        return True

    def turn_away(self, why: str) -> None:
        assert self.why is None
        self.why = why

    def __repr__(self) -> str:
        return f"<{self.number}: level {self.level}, until {self.end}>"


class LineAgainstModel(RuleBasedStateMachine):
    """Callers come, are served, give up and are passed over, while time passes and the limit changes."""

    @initialize(limit=st.integers(1, 3), guaranteed=st.sampled_from([{}, {2: 0.7, 0: 0.3}, {0: 1.0}]))
    def begin(self, limit: int, guaranteed: dict[int, float]) -> None:
        self.guaranteed = guaranteed
        self.shares = Shares(4, guaranteed)
        self.line = AdmissionQueue(self.shares, limit)
        for lane in self.line.lanes:
            lane.codel.set(target=0.5, interval=4.0)
        self.places: Places[Caller] = Places(limit, self.line)
        self.limit = limit
        self.now = 10.0
        self.came = 0
        self.held: list[Caller] = []
        self.queue: list[Caller] = []  # in order of arrival
        self.gone: dict[Caller, str] = {}
        self.stood_since: dict[int, float] = {}
        self.given_up_at: dict[int, float] = {}

    # The model.

    def long_deserted(self, level: int) -> bool:
        return self.now - self.given_up_at.get(level, self.now) > 4

    def stands(self, level: int) -> bool:
        return self.now - self.stood_since.get(level, self.now) > 4 and not self.long_deserted(level)

    def last_left(self, level: int, served: bool) -> None:
        if any(caller.level == level for caller in self.queue):
            return
        if served:
            self.stood_since.pop(level, None)
            self.given_up_at.pop(level, None)
        elif level in self.stood_since:
            self.given_up_at[level] = self.now

    def turn(self) -> Caller:
        def key(caller: Caller) -> tuple[bool, int, int]:
            share = self.guaranteed.get(caller.level, 0)
            holds = sum(other.level == caller.level for other in self.held)
            short = share > 0 and holds < max(1, math.ceil(self.limit * share))
            return short, caller.level, caller.number if self.stands(caller.level) else -caller.number

        return max(self.queue, key=key)

    def settle(self) -> None:
        while self.queue and len(self.held) < self.limit:
            while self.queue:
                caller = self.turn()
                self.queue.remove(caller)
                late = caller.end <= self.now
                self.last_left(caller.level, served=not late)
                if not late:
                    self.held.append(caller)
                    break
                self.gone[caller] = "late"

    # What happens.

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(level=st.integers(0, 3), room=st.integers(0, 4), patience=st.sampled_from([0.05, 1.0, 20.0]))
    def one_comes(self, level: int, room: int, patience: float) -> None:
        codel = self.line.lanes[level].codel
        assert codel.budget(self.now) == (0.5 if self.stands(level) else 4.0)
        caller = Caller(self.came, level, self.now + patience, self.shares.busy[level])
        self.came += 1
        expected = True
        if not self.queue and len(self.held) < self.limit:
            self.held.append(caller)
        else:
            expected = self.model_joins(caller, room)
            self.settle()
        assert self.places.enqueue(caller, room, self.now) is expected

    def model_joins(self, caller: Caller, room: int) -> bool:
        if len(self.queue) >= room:
            lesser = [other for other in self.queue if other.level < caller.level]
            if not lesser:
                return False
            lowest = [other for other in lesser if other.level == min(one.level for one in lesser)]
            victim = lowest[0] if self.stands(lowest[0].level) else lowest[-1]
            self.queue.remove(victim)
            self.last_left(victim.level, served=False)
            self.gone[victim] = "displaced"
        self.queue.append(caller)
        if caller.level not in self.stood_since or self.long_deserted(caller.level):
            self.stood_since[caller.level] = self.now
        self.given_up_at.pop(caller.level, None)
        return True

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def one_gives_back(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.held))
        self.held.remove(caller)
        self.shares.busy[caller.level].pop()
        self.settle()
        self.places.give_back(self.now)

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def one_gives_up(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.queue))
        self.queue.remove(caller)
        self.last_left(caller.level, served=False)
        assert self.places.withdraw(caller, self.now)

    @precondition(lambda self: self.held or self.gone)
    @rule(data=st.data())
    def one_gives_up_too_late(self, data: st.DataObject) -> None:
        assert not self.places.withdraw(data.draw(st.sampled_from([*self.held, *self.gone])), self.now)

    @rule(limit=st.integers(1, 4))
    def the_limit_changes(self, limit: int) -> None:
        self.limit = limit
        self.settle()
        self.line.limit = limit
        self.places.resize(limit, self.now)

    @invariant()
    def they_agree(self) -> None:
        assert self.places.active == len(self.held)
        assert len(self.line) == len(self.queue)
        assert all((caller.woken, caller.why) == (1, None) for caller in self.held)
        assert all((caller.woken, caller.why) == (0, None) for caller in self.queue)
        assert all((caller.woken, caller.why) == (0, why) for caller, why in self.gone.items())

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        assert not (len(self.line) and self.places.free)


TestLineAgainstModel = LineAgainstModel.TestCase
TestLineAgainstModel.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def line_of(guaranteed: dict[int, float] | None = None) -> AdmissionQueue:
    """A line of two levels and a limit of two."""
    line = AdmissionQueue(Shares(2, guaranteed or {}), 2)
    for lane in line.lanes:
        lane.codel.set(target=0.5, interval=4.0)
    return line


def comes(line: AdmissionQueue, now: float, level: int = 0, *, until: float = 100.0, room: int = 9) -> Caller:
    caller = Caller(0, level, until, line.shares.busy[level])
    assert line.join(caller, room, now)
    return caller


def test_who_came_first_is_next_until_the_line_stands_and_then_who_came_last() -> None:
    line = line_of()
    callers = [comes(line, 10.0) for _ in range(4)]
    assert [line.next(at) for at in (14.0, 14.1, 14.2)] == [callers[0], callers[3], callers[2]]


def test_the_limit_of_the_line_is_what_shares_are_parts_of() -> None:
    line = line_of({0: 1.0})
    comes(line, 10.0, 1)
    for _ in range(2):
        comes(line, 10.0, 0)
    for _ in range(2):
        served = line.next(10.0)
        assert served is not None
        assert served.level == 0
        served.wake()
    comes(line, 10.0, 0)
    served = line.next(10.0)
    assert served is not None
    assert served.level == 1


def test_a_wait_is_in_vain_from_its_end_on() -> None:
    line = line_of()
    late, in_time = comes(line, 10.0, until=11.0), comes(line, 10.0, until=11.1)
    assert line.next(11.0) is in_time
    assert (late.why, in_time.why) == ("late", None)


@pytest.mark.parametrize(("until", "budget"), [(100.0, 4.0), (15.0, 0.5)])
def test_a_line_emptied_by_serving_stands_no_more_and_one_that_was_too_late_does(
    until: float, budget: float
) -> None:
    line = line_of()
    comes(line, 10.0, until=until)
    assert (line.next(15.0) is None) is (until == 15.0)
    comes(line, 15.1)
    assert line.lanes[0].codel.budget(15.1) == budget


def test_a_line_whose_last_one_was_displaced_stands_for_one_interval_more() -> None:
    line = line_of()
    displaced = comes(line, 10.0)
    comes(line, 15.0, 1, room=1)
    assert displaced.why == "displaced"
    assert [line.lanes[0].codel.budget(at) for at in (15.1, 19.1)] == [0.5, 4.0]


class Interrupted(Lane):
    """A lane in which something happens once, just after one was taken out of it, as the collector would have it."""

    then: Callable[[Entry], object] | None = None

    def take(self, *, last: bool) -> Entry | None:
        entry = super().take(last=last)
        if self.then is not None and entry is not None:
            then, self.then = self.then, None
            then(entry)
        return entry


def interrupted_line() -> AdmissionQueue:
    """A line in which the first to be taken out gives up just then."""
    line = line_of()
    lane = Interrupted()
    lane.then = lambda entry: line.leave(entry, 10.0)
    line.lanes = (lane, line.lanes[1])
    return line


def test_who_gives_up_when_its_turn_comes_is_passed_over() -> None:
    line = interrupted_line()
    gone, patient = comes(line, 10.0), comes(line, 10.0)
    assert line.next(10.0) is patient
    assert gone.why is None
    assert not line


def test_who_gives_up_when_it_is_displaced_is_not_told_that_it_was() -> None:
    line = interrupted_line()
    patient, gone = comes(line, 10.0), comes(line, 10.0)
    assert not line.join(Caller(0, 1, 100.0, line.shares.busy[1]), 2, 10.0)
    assert gone.why is None
    assert list(line) == [patient]
