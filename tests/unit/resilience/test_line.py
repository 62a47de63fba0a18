"""The line before a gate that opens with time: who is let through when, and what becomes of those who give up."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from mcp_server_langgraph.resilience._machines import line as machine
from mcp_server_langgraph.resilience._machines.line import (
    LEAST,
    Line,
    LoopSleeper,
    Sleeper,
    ThreadSleeper,
    Turn,
)
from mcp_server_langgraph.resilience.testing import settle


class Shop:
    """A gate that has one ware more each second from 0 s on."""

    def __init__(self, sold: float = 0.0) -> None:
        self.sold = sold
        self.returned: list[tuple[float, int, float, float]] = []
        self.marks = 0
        self.on_take: Callable[[], object] | None = None

    def take(self, cost: float, now: float) -> int:
        if self.sold + cost > now:
            return 0
        self.sold += cost
        self.marks += 1
        if self.on_take is not None:
            self.on_take()
        return self.marks

    def delay(self, cost: float, now: float, ahead: float) -> float:
        return max(0.0, self.sold + ahead + cost - now)

    def give_back(self, cost: float, mark: int, since: float, now: float) -> None:
        self.sold -= cost
        self.returned.append((cost, mark, since, now))


class Noted(Sleeper):
    """Somebody who notes how often it was woken."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return self.there


def line_of(shop: Shop) -> Line[float]:
    return Line(shop, 0.0)


def now() -> float:
    return asyncio.get_running_loop().time()


def stands(line: Line[float], cost: float, at: float, *, there: bool = True) -> Noted:
    sleeper = Noted(there=there)
    assert line.join(sleeper, cost, at, 100.0, 9) is None
    return sleeper


def test_who_comes_when_nobody_waits_takes_it_at_once_with_the_gates_mark() -> None:
    line = line_of(Shop())
    assert line.join(Noted(), 1.0, 5.0, 0.0, 0) == Turn(5.0, 0.0, 1)
    assert line.join(Noted(), 1.0, 5.0, 0.0, 0) == Turn(5.0, 0.0, 2)
    assert not line.waiting


def test_who_would_wait_too_long_or_finds_the_line_full_learns_how_long_it_would_be() -> None:
    line = line_of(Shop())
    assert line.join(Noted(), 2.0, 0.5, 1.4, 9) == Turn(None, 1.5)
    assert line.join(Noted(), 2.0, 0.5, 1.5, 0) == Turn(None, 1.5)
    assert not line.waiting
    assert line.join(Noted(), 2.0, 0.5, 1.5, 1) is None
    assert line.join(Noted(), 1.0, 0.5, 100.0, 1) == Turn(None, 2.5)
    assert line.delay(1.0, 0.5) == 2.5


def test_nobody_overtakes_those_who_wait() -> None:
    line = line_of(Shop())
    first = stands(line, 5.0, 1.0)
    assert line.join(Noted(), 1.0, 2.0, 0.0, 9) == Turn(None, 4.0), "there is one now, but not for it"
    assert first.since is None


def test_whose_turn_it_is_are_let_through_by_whoever_comes_and_the_next_is_called() -> None:
    line = line_of(shop := Shop())
    sleepers = [stands(line, 1.0, 0.0) for _ in range(3)]
    line.advance(2.0)
    assert [(each.since, each.mark, each.woken) for each in sleepers] == [
        (2.0, 1, 1),
        (2.0, 2, 1),
        (None, 0, 1),
    ]
    assert list(line.waiting) == [sleepers[2]]
    assert line.delay(1.0, 2.0) == 2.0
    line.advance(2.5)
    assert sleepers[2].woken == 1, "nothing has changed"
    line.advance(2.5, changed=True)
    assert sleepers[2].woken == 2
    assert shop.returned == []


def test_the_head_learns_when_its_turn_is_and_the_others_sleep() -> None:
    line = line_of(Shop())
    first, second = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)
    assert [line.look(first, 0.25), line.look(second, 0.25)] == [0.75, math.inf]
    assert line.look(first, 1.0) == 0.0
    assert line.look(second, 1.25) == 0.75
    assert (first.since, second.since) == (1.0, None)


def test_a_timer_is_never_shorter_than_a_clock_can_tell() -> None:
    class Rounded(Shop):
        def delay(self, cost: float, now: float, ahead: float) -> float:
            return 1e-12

    line = line_of(Rounded())
    assert line.look(stands(line, 1.0, 0.0), 0.5) == LEAST


def test_who_leaves_takes_nothing_and_is_waited_for_no_more() -> None:
    line = line_of(shop := Shop())
    first, second = stands(line, 3.0, 0.0), stands(line, 1.0, 0.0)
    assert line.leave(first) is True
    assert line.leave(first) is False
    assert line.delay(1.0, 0.0) == 2.0
    line.advance(1.0)
    assert (second.since, shop.sold) == (1.0, 1.0)
    assert line.leave(second) is False


def test_nobody_in_line_is_exactly_nothing() -> None:
    line = line_of(Shop())
    sleepers = [stands(line, cost, 0.0) for cost in (0.1, 0.2, 0.3)]
    for sleeper in sleepers:
        line.leave(sleeper)
    assert line.delay(0.0, 0.0) == 0.0


def test_one_who_has_left_an_empty_line_is_not_at_its_head() -> None:
    line = line_of(Shop())
    sleeper = stands(line, 1.0, 0.0)
    line.leave(sleeper)
    assert line.look(sleeper, 0.0) == math.inf


def test_one_who_is_not_there_any_more_gives_it_back_and_holds_nobody_up() -> None:
    line = line_of(shop := Shop())
    gone, second = stands(line, 2.0, 0.0, there=False), stands(line, 2.0, 0.0)
    line.advance(2.0)
    assert shop.returned == [(2.0, 1, 2.0, 2.0)]
    assert (gone.woken, second.since) == (1, 2.0)


def test_one_who_cannot_be_called_loses_its_place_to_the_next() -> None:
    line = line_of(Shop())
    for _ in range(2):
        stands(line, 1.0, 0.0, there=False)
    last, behind = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)
    line.advance(0.5, changed=True)
    assert list(line.waiting) == [last, behind]
    assert (last.woken, behind.woken) == (1, 0)


def test_what_was_taken_for_one_that_the_collector_closed_meanwhile_goes_back() -> None:
    line = line_of(shop := Shop())
    closed, second = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)

    def close() -> None:
        shop.on_take = None
        assert line.leave(closed)

    shop.on_take = close
    line.advance(1.0)
    assert shop.returned == [(1.0, 1, 1.0, 1.0)]
    assert (closed.since, second.since, line.delay(1.0, 1.0)) == (None, 1.0, 1.0)


def test_one_that_the_collector_closes_while_it_is_called_loses_nobody_the_call() -> None:
    line = line_of(Shop())

    class Closed(Noted):
        def wake(self) -> bool:
            line.leave(self)
            return False

    closed = Closed()
    line.join(closed, 1.0, 0.0, 100.0, 9)
    second = stands(line, 1.0, 0.0)
    line.advance(0.5, changed=True)
    assert list(line.waiting) == [second]


def test_a_line_that_the_collector_empties_while_it_is_looked_at_is_empty() -> None:
    class Emptied(OrderedDict[Sleeper, float]):
        def __bool__(self) -> bool:
            return True

    line = line_of(shop := Shop())
    line.waiting = Emptied()
    line.advance(1.0, changed=True)
    assert shop.marks == 0


async def test_tasks_are_let_through_in_the_order_they_came_each_at_its_time() -> None:
    line = line_of(Shop(sold=now()))
    turns = await asyncio.gather(*(line.wait(cost, 100.0, 9) for cost in (1.0, 2.0, 0.5)))
    assert turns == [Turn(pytest.approx(at), 0.0, place) for at, place in ((1.0, 1), (3.0, 2), (3.5, 3))]  # type: ignore[arg-type]
    assert now() == pytest.approx(3.5)


async def test_what_is_there_is_taken_without_waiting_and_what_is_not_refused() -> None:
    line = line_of(Shop(sold=now() - 1))
    assert await line.wait(1.0, 0.0, 0) == Turn(now(), 0.0, 1)
    assert await line.wait(1.0, 0.9, 9) == Turn(None, 1.0)
    assert await line.wait(1.0, 5.0, 0) == Turn(None, 1.0)
    assert now() == 0


async def test_who_waits_in_vain_learns_what_is_missing_and_calls_the_next() -> None:
    shop = Shop(sold=now())
    line = line_of(shop)
    first = asyncio.create_task(line.wait(2.0, 2.0, 9))
    second = asyncio.create_task(line.wait(2.0, 4.5, 9))
    third = asyncio.create_task(line.wait(0.25, 100.0, 9))
    await settle()
    shop.sold += 1.0  # the gate opens later than it said
    assert await first == Turn(None, pytest.approx(1.0))  # type: ignore[arg-type]
    assert now() == 2.0
    assert await second == Turn(pytest.approx(3.0), 0.0, 1)  # type: ignore[arg-type]
    assert (await third).since == pytest.approx(3.25)


async def test_one_in_the_middle_who_waits_in_vain_learns_how_long_it_would_be_now() -> None:
    await asyncio.sleep(10.0)
    shop = Shop(sold=now())
    line = line_of(shop)
    first = asyncio.create_task(line.wait(2.0, 100.0, 9))
    second = asyncio.create_task(line.wait(1.0, 3.0, 9))
    await settle()
    shop.sold += 5.0
    assert await second == Turn(None, pytest.approx(5.0))  # type: ignore[arg-type]
    assert now() == 13.0
    assert (await first).since == pytest.approx(17.0)


async def test_a_cancelled_wait_takes_nothing_and_the_next_moves_up_at_once() -> None:
    shop = Shop(sold=now())
    line = line_of(shop)
    first = asyncio.create_task(line.wait(10.0, 100.0, 9))
    second = asyncio.create_task(line.wait(1.0, 100.0, 9))
    await asyncio.sleep(2.0)
    first.cancel()
    assert (await second).since == 2.0
    assert (shop.sold, shop.returned) == (1.0, [])


async def test_one_cancelled_as_its_turn_comes_gives_back_what_it_took() -> None:
    shop = Shop(sold=now())
    line = line_of(shop)
    first = asyncio.create_task(line.wait(1.0, 100.0, 9))
    second = asyncio.create_task(line.wait(1.0, 100.0, 9))
    await settle()
    asyncio.get_running_loop().call_at(1.0, first.cancel)
    asyncio.get_running_loop().call_at(0.5, shop.__setattr__, "sold", -10.0)
    asyncio.get_running_loop().call_at(1.0, line.advance, 1.0)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).since == 1.0
    assert shop.returned == [(1.0, 1, 1.0, 1.0)]


async def test_a_sleeper_woken_before_it_sleeps_does_not_sleep_and_then_sleeps_again() -> None:
    sleeper = LoopSleeper(asyncio.get_running_loop())
    assert sleeper.wake() is True
    await sleeper.sleep(5.0)
    assert now() == 0
    await sleeper.sleep(5.0)
    assert now() == 5
    await sleeper.sleep(2.0)
    assert now() == 7


async def test_a_sleeper_may_be_woken_twice_and_leaves_no_timer() -> None:
    loop = asyncio.get_running_loop()
    sleeper = LoopSleeper(loop)
    asleep = asyncio.create_task(sleeper.sleep(5.0))
    await settle()
    assert [sleeper.wake(), sleeper.wake()] == [True, True]
    await asleep
    assert now() == 0
    assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]


async def test_a_sleeper_that_nobody_wakes_sleeps_for_so_long() -> None:
    await LoopSleeper(asyncio.get_running_loop()).sleep(2.0)
    assert now() == 2


@pytest.mark.real_time
async def test_a_thread_that_wakes_a_sleeper_hears_that_it_is_there() -> None:
    assert await asyncio.to_thread(LoopSleeper(asyncio.get_running_loop()).wake) is True


@pytest.mark.real_time
async def test_a_sleeper_is_woken_from_another_thread_and_not_in_a_closed_loop() -> None:
    sleeper = LoopSleeper(asyncio.get_running_loop())
    threading.Thread(target=sleeper.wake).start()
    await asyncio.wait_for(sleeper.sleep(100.0), 10)

    def close_and_wake() -> bool:
        loop = asyncio.new_event_loop()
        gone = LoopSleeper(loop)
        loop.close()
        return gone.wake()

    assert await asyncio.to_thread(close_and_wake) is False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that threads read, and that goes on when they sleep."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(machine, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def sleep(self: ThreadSleeper, seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(ThreadSleeper, "sleep", sleep)
    return clock


def test_a_thread_waits_for_its_turn_or_learns_that_it_would_take_too_long(clock: SimpleNamespace) -> None:
    line = line_of(Shop())
    assert line.wait_sync(2.0, 2.0, 9) == Turn(2.0, 0.0, 1)
    assert clock.now == 2.0
    assert line.wait_sync(2.0, 1.9, 9) == Turn(None, 2.0)
    assert line.wait_sync(2.0, 2.0, 0) == Turn(None, 2.0)
    clock.now = 4.0
    assert line.wait_sync(2.0, 0.0, 0) == Turn(4.0, 0.0, 2)
    assert clock.now == 4.0


def test_a_thread_that_waits_in_vain_learns_what_is_missing_and_calls_the_next(
    clock: SimpleNamespace,
) -> None:
    class Late(Shop):
        def take(self, cost: float, now: float) -> int:
            return 0

        def delay(self, cost: float, now: float, ahead: float) -> float:
            return 2.5 if now < 1.0 else 7.0

    clock.now = 0.5
    line = line_of(Late())
    behind: list[Noted] = []
    usual = line.look

    def look(sleeper: Sleeper, now: float) -> float:
        if not behind:
            behind.append(stands(line, 1.0, now))
        return usual(sleeper, now)

    line.look = look  # type: ignore[method-assign]
    assert line.wait_sync(2.0, 3.0, 9) == Turn(None, 7.0)
    assert clock.now == 3.5
    assert list(line.waiting) == behind
    assert behind[0].woken == 1


def test_a_thread_behind_others_that_waits_in_vain_learns_how_long_it_would_be_now(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = line_of(shop := Shop(sold=5.0))
    head = stands(line, 2.0, 0.0)

    def sleep(self: ThreadSleeper, seconds: float) -> None:
        clock.now += seconds
        shop.sold = 20.0

    monkeypatch.setattr(ThreadSleeper, "sleep", sleep)
    assert line.wait_sync(1.0, 9.0, 9) == Turn(None, 20.0 + 2.0 + 1.0 - 9.0)
    assert (clock.now, list(line.waiting)) == (9.0, [head])


@pytest.mark.parametrize("threads", [True, False])
async def test_a_wait_that_fails_after_its_turn_came_gives_back_what_it_took(
    threads: bool, clock: SimpleNamespace
) -> None:
    line = line_of(shop := Shop(sold=now() + 0.5))
    usual = line.look

    def look(sleeper: Sleeper, at: float) -> float:
        shop.sold = at - 1
        usual(sleeper, at)
        raise ValueError("no idea")

    line.look = look  # type: ignore[method-assign]
    began = clock.now if threads else now()
    with pytest.raises(ValueError, match="no idea"):
        await (in_line(line) if threads else line.wait(1.0, 9.0, 9))
    assert shop.returned == [(1.0, 1, began, began)]
    assert not line.waiting


async def test_a_failure_after_a_wait_in_vain_gives_nothing_back() -> None:
    class Broken(Shop):
        def take(self, cost: float, now: float) -> int:
            if cost == 1.0:
                raise ValueError("no idea")
            return super().take(cost, now)

    line = line_of(shop := Broken(sold=now()))
    waiting = asyncio.create_task(line.wait(2.0, 3.0, 9))
    await settle()
    shop.sold += 5.0
    stands(line, 1.0, now())
    with pytest.raises(ValueError, match="no idea"):
        await waiting
    assert shop.returned == []


async def in_line(line: Line[float]) -> Turn:
    return line.wait_sync(1.0, 9.0, 9)


@pytest.mark.parametrize("threads", [True, False])
async def test_a_wait_that_fails_leaves_the_line(threads: bool, clock: SimpleNamespace) -> None:
    line = line_of(shop := Shop(sold=now()))
    behind: list[Noted] = []

    def delay(cost: float, now: float, ahead: float) -> float:
        if ahead == 0.0 and line.waiting:  # asked by who is at the head
            behind.append(stands(line, 1.0, now))
            raise ValueError("no idea")
        return 1.0

    shop.delay = delay  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="no idea"):
        await (in_line(line) if threads else line.wait(1.0, 9.0, 9))
    assert list(line.waiting) == behind
    assert [each.woken for each in behind] == [1]


def test_a_threads_sleep_ends_when_it_is_woken_and_the_next_one_is_another() -> None:
    sleeper = ThreadSleeper()
    waker = threading.Timer(0.01, sleeper.wake)
    waker.start()
    sleeper.sleep(math.inf)
    waker.join()
    began = time.monotonic()
    sleeper.sleep(0.02)
    assert time.monotonic() - began >= 0.015
    assert sleeper.wake() is True
