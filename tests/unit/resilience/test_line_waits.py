"""Tasks and threads that wait in the line before a gate: in turn, in vain, cancelled, or failing."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from types import SimpleNamespace

import pytest

from mcp_server_langgraph.resilience._machines import line as machine
from mcp_server_langgraph.resilience._machines.line import (
    Line,
    LoopSleeper,
    Sleeper,
    ThreadSleeper,
    Turn,
)
from mcp_server_langgraph.resilience.testing import settle
from tests.support.clock import now
from tests.support.line import Noted, Shop, line_of, stands


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
