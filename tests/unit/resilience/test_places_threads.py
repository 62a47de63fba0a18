"""The bulkhead's places between threads: the interleavings that matter, forced one by one."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from mcp_server_langgraph.resilience._machines.places import LoopWaiter, Places, ThreadWaiter


class Caller:
    """Somebody who wants a place; counts how often it was handed over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True


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


class SeenByAThief(deque[None]):
    """Free places, of which another thread takes each at the moment at which it lies there."""

    def append(self, item: None) -> None:
        super().append(item)
        super().pop()


def test_a_place_that_is_owed_never_lies_where_others_can_take_it() -> None:
    places = Places(2)
    places.free.clear()
    places.resize(1)
    places.free = SeenByAThief()
    places.give_back()
    assert (places.active, places.debt) == (1, 0)


class Contended:
    """The lock of places, for which another thread was faster."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.step: Callable[[], object] | None = step
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        step, self.step = self.step, None
        if step is not None:
            step()
        self.lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.lock.release()


def test_a_debt_that_is_forgiven_while_a_place_comes_back_leaves_the_place() -> None:
    places = Places(2)
    places.free.clear()
    places.resize(1)
    places._lock = Contended(lambda: places.resize(2))  # type: ignore[assignment]
    places.give_back()
    assert (places.active, places.debt, len(places.free)) == (1, 0, 1)


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
    thread.join(60)
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
