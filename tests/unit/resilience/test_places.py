"""The bulkhead's machine against a naive model, and the interleavings of threads, forced one by one."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mcp_server_langgraph.resilience._machines.places import LoopWaiter, Places, ThreadWaiter


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


class Interleaved(deque[None]):
    """Free places; lets another thread's step happen between looking and finding nothing, or before an append."""

    def __init__(self, places: Places) -> None:
        super().__init__(places.free)
        self.when_empty: Callable[[], object] | None = None
        self.before_append: Callable[[], object] | None = None

    def pop(self) -> None:  # type: ignore[override]
        step, self.when_empty = self.when_empty, None
        try:
            super().pop()
        except IndexError:
            if step is not None:
                step()
            raise

    def append(self, item: None) -> None:
        step, self.before_append = self.before_append, None
        if step is not None:
            step()
        super().append(item)


def test_a_place_given_back_between_looking_and_queueing_is_not_lost() -> None:
    places = Places(1)
    places.free.pop()
    places.free = free = Interleaved(places)
    free.when_empty = places.give_back
    caller = Caller(1)
    assert places.enqueue(caller, 1)
    assert (caller.woken, places.active, len(places.waiting)) == (1, 1, 0)


def test_a_limit_that_shrinks_while_a_place_comes_back_takes_that_place() -> None:
    places = Places(2)
    places.free.clear()
    places.free = free = Interleaved(places)
    free.before_append = lambda: places.resize(1)
    places.give_back()
    assert (places.active, places.debt, len(places.free)) == (1, 0, 0)


class ClosedByTheCollector(Caller):
    """While it is put into the queue the garbage collector closes an abandoned call, which gives its place back."""

    def __init__(self, number: int, places: Places) -> None:
        super().__init__(number)
        self.places: Places | None = places

    def __hash__(self) -> int:
        places, self.places = self.places, None
        if places is not None:
            places.give_back()
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        return self is other


def test_a_place_that_comes_back_in_the_middle_of_queueing_does_no_harm() -> None:
    places = Places(1)
    places.free.pop()
    first = Caller(1)
    places.enqueue(first, 2)
    caller = ClosedByTheCollector(2, places)
    thread = threading.Thread(target=places.enqueue, args=(caller, 2), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it waits for its own lock"
    assert (first.woken, caller.woken, places.active, list(places.waiting)) == (1, 0, 1, [caller])


def test_who_comes_between_a_place_and_the_one_it_is_for_does_not_overtake() -> None:
    places = Places(1)
    places.free.pop()
    first, second = Caller(1), Caller(2)
    places.enqueue(first, 2)
    places.free.append(None)
    assert places.enqueue(second, 2)
    assert (first.woken, second.woken, list(places.waiting)) == (1, 0, [second])


def test_a_waiter_whose_loop_has_closed_is_passed_over() -> None:
    loop = asyncio.new_event_loop()
    places = Places(1)
    places.free.pop()
    closed = [LoopWaiter(loop) for _ in range(2000)]
    for waiter in closed:
        places.enqueue(waiter, 3000)
    living = ThreadWaiter()
    places.enqueue(living, 3000)
    loop.close()
    places.give_back()
    assert living.event.is_set()
    assert (places.active, len(places.waiting)) == (1, 0)
    places.give_back()
    assert (places.active, len(places.free)) == (0, 1)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("eager_switching")
def test_eight_threads_leave_every_place_as_it_was() -> None:
    places = Places(3)
    inside: list[int] = []
    most: list[int] = []

    def hammer() -> None:
        for _ in range(200):
            waiter = ThreadWaiter()
            assert places.enqueue(waiter, 8)
            assert waiter.event.wait(30), "a wake-up was lost"
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            places.give_back()

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(most) == 1600
    assert max(most) <= 3
    assert (places.active, len(places.waiting), len(places.free)) == (0, 0, 3)


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
