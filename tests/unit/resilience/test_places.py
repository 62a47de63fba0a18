"""The bulkhead's machine against a naive model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcp_server_langgraph.resilience._machines.places import Places


class Caller:
    """Somebody who wants a place; notes whether it was handed over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.gone = False
        self.woken = 0

    def wake(self) -> bool:
        self.woken += not self.gone
        return not self.gone

    def __repr__(self) -> str:
        return f"<{self.number}>"


class PlacesAgainstModel(RuleBasedStateMachine):
    """Callers come, wait, give up, vanish and give back while the limit changes; the model is two lists."""

    @initialize(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        self.places = Places(limit)
        self.limit = limit
        self.held: list[Caller] = []
        self.queue: list[Caller] = []
        self.came = 0
        self.most = limit

    def settle(self) -> None:
        while self.queue and len(self.held) < self.limit:
            first = self.queue.pop(0)
            if not first.gone:
                self.held.append(first)
        self.most = max(self.limit, min(self.most, len(self.held)))

    @rule(max_queue=st.integers(0, 3))
    def one_comes(self, max_queue: int) -> None:
        caller = Caller(self.came)
        self.came += 1
        if not self.queue and len(self.held) < self.limit:
            self.held.append(caller)
            expected = True
        else:
            expected = len(self.queue) < max_queue
            if expected:
                self.queue.append(caller)
        assert self.places.enqueue(caller, max_queue) is expected

    @rule()
    def one_comes_and_does_not_wait(self) -> None:
        """What `Bulkhead` does on the success path."""
        if not self.places.waiting:
            try:
                self.places.free.pop()
            except IndexError:
                assert len(self.held) >= self.limit
            else:
                caller = Caller(self.came)
                caller.woken = 1
                self.came += 1
                self.held.append(caller)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def one_gives_back(self, data: st.DataObject) -> None:
        self.held.remove(data.draw(st.sampled_from(self.held)))
        self.settle()
        self.places.give_back()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def one_stops_waiting(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.queue))
        self.queue.remove(caller)
        assert self.places.withdraw(caller)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def one_stops_waiting_too_late(self, data: st.DataObject) -> None:
        assert not self.places.withdraw(data.draw(st.sampled_from(self.held)))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def one_vanishes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.queue)).gone = True

    @rule(limit=st.integers(1, 5))
    def the_limit_changes(self, limit: int) -> None:
        self.most = max(limit, len(self.held))
        self.limit = limit
        self.settle()
        self.places.resize(limit)

    @invariant()
    def they_agree(self) -> None:
        assert self.places.active == len(self.held)
        assert list(self.places.waiting) == self.queue
        assert all(caller.woken == 1 for caller in self.held)
        assert not any(caller.woken for caller in self.queue)

    @invariant()
    def only_places_held_when_the_limit_shrank_exceed_it(self) -> None:
        assert self.places.active <= self.most

    @invariant()
    def nobody_waits_while_a_place_is_free(self) -> None:
        assert not (self.places.waiting and self.places.free)


TestPlacesAgainstModel = PlacesAgainstModel.TestCase
TestPlacesAgainstModel.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("limit", [1, 5])
def test_resizing_back_and_forth_keeps_the_count(limit: int) -> None:
    places = Places(3)
    for _ in range(3):
        places.free.pop()
    for other in (limit, 3, limit, 1, 4, limit):
        places.resize(other)
        assert places.active == 3
    for _ in range(3):
        places.give_back()
    assert (places.active, len(places.free), places.debt) == (0, limit, 0)
