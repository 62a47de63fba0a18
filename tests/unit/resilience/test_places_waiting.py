"""Those who wait for a place: tasks and threads, and the line that they stand in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mcp_server_langgraph.resilience._machines.places import Fifo, LoopWaiter, Places, ThreadWaiter


@pytest.fixture
def elsewhere() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of another thread, that is: one that does not run here."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


async def test_a_task_is_told_at_once_by_another_of_its_loop() -> None:
    woken, refused = (LoopWaiter(asyncio.get_running_loop()) for _ in range(2))
    assert (woken.wake(), refused.tell(False)) == (True, True)
    assert (woken.future.result(), refused.future.result()) == (True, False)


def test_a_task_is_told_by_its_own_loop_when_another_thread_has_news(
    elsewhere: asyncio.AbstractEventLoop,
) -> None:
    woken, refused = LoopWaiter(elsewhere), LoopWaiter(elsewhere)
    assert (woken.wake(), refused.tell(False)) == (True, True)
    assert not woken.future.done()
    told = asyncio.gather(woken.future, refused.future)
    assert elsewhere.run_until_complete(asyncio.wait_for(told, 5)) == [True, False]


async def test_the_first_news_is_what_the_task_hears() -> None:
    waiter = LoopWaiter(asyncio.get_running_loop())
    waiter.settle(False)
    assert waiter.wake()
    assert await waiter.future is False


async def test_a_task_that_was_cancelled_may_still_be_woken() -> None:
    waiter = LoopWaiter(asyncio.get_running_loop())
    waiter.future.cancel()
    assert waiter.wake()
    assert waiter.future.cancelled()


def test_a_thread_is_woken_by_its_event() -> None:
    waiter = ThreadWaiter()
    assert not waiter.event.is_set()
    assert waiter.wake()
    assert waiter.event.is_set()


def test_a_line_takes_those_for_whom_there_is_room_and_lets_them_out_in_turn() -> None:
    line: Fifo[ThreadWaiter] = Fifo()
    first, second, third = (ThreadWaiter() for _ in range(3))
    assert [line.join(waiter, 2, 0.0) for waiter in (first, second, third)] == [True, True, False]
    assert [line.next(0.0) for _ in range(3)] == [first, second, None]


def test_only_who_stands_in_a_line_can_leave_it() -> None:
    line: Fifo[ThreadWaiter] = Fifo()
    here, elsewhere = ThreadWaiter(), ThreadWaiter()
    line.join(here, 1, 0.0)
    assert [line.leave(waiter, 0.0) for waiter in (elsewhere, here, here)] == [False, True, False]


class Timed(Fifo[ThreadWaiter]):
    """A line that notes when it was asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, float]] = []

    def join(self, waiter: ThreadWaiter, room: int, now: float) -> bool:
        self.log.append(("join", now))
        return super().join(waiter, room, now)

    def leave(self, waiter: ThreadWaiter, now: float) -> bool:
        self.log.append(("leave", now))
        return super().leave(waiter, now)

    def next(self, now: float) -> ThreadWaiter | None:
        self.log.append(("next", now))
        return super().next(now)


def test_a_line_of_ones_own_is_told_the_time_of_what_happens() -> None:
    line = Timed()
    places = Places(1, line)
    places.free.pop()
    first, second, third, last = (ThreadWaiter() for _ in range(4))
    places.enqueue(first, 9, 1.0)
    places.enqueue(second, 9, 2.0)
    places.withdraw(first, 3.0)
    places.enqueue(first, 9, 4.0)
    places.give_back(5.0)
    places.free.append(None)
    places.enqueue(third, 9, 6.0)
    places.resize(2, 7.0)
    places.enqueue(last, 9, 8.0)
    places.free.append(None)
    places.settle(9.0)
    assert line.log == [
        *(("join", 1.0), ("join", 2.0), ("leave", 3.0), ("join", 4.0), ("next", 5.0)),
        *(("join", 6.0), ("next", 6.0), ("next", 7.0), ("join", 8.0), ("next", 9.0)),
    ]


def test_places_that_are_not_told_the_time_tell_their_line_that_it_is_0() -> None:
    line = Timed()
    places = Places(1, line)
    places.free.pop()
    first, second, third, last = (ThreadWaiter() for _ in range(4))
    for waiter in (first, second, third, last):
        places.enqueue(waiter, 9)
    places.withdraw(first)
    places.give_back()
    places.resize(2)
    places.free.append(None)
    places.settle()
    assert [what for what, _ in line.log] == [*["join"] * 4, "leave", *["next"] * 3]
    assert {now for _, now in line.log} == {0.0}


class Reserved(Fifo[ThreadWaiter]):
    """A line in which nobody's turn has come yet, as in one that sheds or weighs those who wait."""

    def next(self, now: float) -> ThreadWaiter | None:
        return None


def test_a_place_that_is_nobodys_turn_stays_free() -> None:
    places = Places(1, Reserved())
    places.free.pop()
    waiter = ThreadWaiter()
    places.enqueue(waiter, 1)
    places.give_back()
    assert (places.active, len(places.free), waiter.event.is_set()) == (0, 1, False)
