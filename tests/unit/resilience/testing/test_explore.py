"""The explorer finds planted races, tells the schedule, and replays it; it finds nothing where there is nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import pytest

from mcp_server_langgraph.resilience.testing import (
    DeadlockError,
    Exploration,
    LeftoverTasksError,
    NondeterminismError,
    ScheduleError,
    explore,
    replay,
)


async def lost_update() -> None:
    """Two tasks read, wait, and write: the second write may hide the first."""
    balance = 0

    async def deposit() -> None:
        nonlocal balance
        read = balance
        await asyncio.sleep(0)
        balance = read + 1

    async with asyncio.TaskGroup() as group:
        group.create_task(deposit())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        group.create_task(deposit())
    assert balance == 2, f"balance is {balance}"


def test_a_lost_update_is_found_and_its_schedule_replayed() -> None:
    asyncio.run(lost_update())
    with pytest.raises(ScheduleError) as found:
        explore(lost_update)
    failure = found.value
    assert failure.schedule
    assert f"fails under the schedule '{failure.schedule}': AssertionError: balance is 1" in str(failure)
    assert "(deposit)" in str(failure)
    assert isinstance(failure.__cause__, AssertionError)
    with pytest.raises(AssertionError, match="balance is 1"):
        replay(lost_update, failure.schedule)
    replay(lost_update, "")


def test_orders_with_few_deviations_come_first() -> None:
    assert explore(lost_update, deviations=1).complete
    with pytest.raises(ScheduleError) as found:
        explore(lost_update, deviations=None)
    assert len(found.value.schedule.split()) == 2


class BrokenSemaphore:
    """Looks whether there is room, waits, and takes it without looking again (as many a hand-made one does)."""

    def __init__(self, limit: int) -> None:
        self.room = limit
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self.room <= 0:
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
        self.room -= 1

    def release(self) -> None:
        self.room += 1
        if self.waiting:
            self.waiting.popleft().set_result(None)


class LeakySemaphore(asyncio.Semaphore):
    """Loses a permit whose waiter was cancelled after it had been woken (CPython's gh-90155, before it was mended)."""

    async def acquire(self) -> bool:  # type: ignore[override]
        while self._value <= 0:
            turn = asyncio.get_running_loop().create_future()
            self.turns.append(turn)
            await turn
            self._value += 1
        self._value -= 1
        return True

    def release(self) -> None:
        if not self.turns:
            self._value += 1
            return
        self.turns.popleft().set_result(None)

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.turns: deque[asyncio.Future[None]] = deque()


Semaphore = BrokenSemaphore | asyncio.Semaphore


def crowd(make: Callable[[], Semaphore]) -> Callable[[], object]:
    """Three workers at a semaphore of one."""

    async def program() -> None:
        semaphore = make()
        inside = 0

        async def worker() -> None:
            nonlocal inside
            await semaphore.acquire()
            inside += 1
            assert inside == 1, "two at once"
            await asyncio.sleep(0)
            inside -= 1
            semaphore.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(worker())
            await asyncio.sleep(0)
            group.create_task(worker())

    return program


def test_a_broken_semaphore_is_found() -> None:
    with pytest.raises(ScheduleError):
        explore(crowd(lambda: BrokenSemaphore(1)), deviations=2)  # type: ignore[arg-type]


def test_asyncios_own_semaphore_withstands() -> None:
    done = explore(crowd(lambda: asyncio.Semaphore(1)), deviations=2)  # type: ignore[arg-type]
    assert done.complete
    assert done.runs > 50


def cancelled_waiter(make: Callable[[], Semaphore]) -> Callable[[], object]:
    """A waiter is cancelled; nobody else may suffer from it."""

    async def program() -> None:
        semaphore = make()

        async def worker() -> None:
            await semaphore.acquire()
            try:
                await asyncio.sleep(0)
            finally:
                semaphore.release()

        tasks = [asyncio.create_task(worker()) for _ in range(3)]
        for _ in range(2):
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks)

    return program


def test_a_permit_that_is_lost_with_its_waiter_is_a_deadlock_that_is_found() -> None:
    with pytest.raises(ScheduleError) as found:
        explore(cancelled_waiter(lambda: LeakySemaphore(1)), deviations=3)  # type: ignore[arg-type]
    assert isinstance(found.value.failure, (DeadlockError, AssertionError, asyncio.InvalidStateError))
    explore(cancelled_waiter(lambda: asyncio.Semaphore(1)), deviations=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_orders_find_it_too_and_their_schedule_can_be_replayed(seed: int) -> None:
    with pytest.raises(ScheduleError) as found:
        explore(lost_update, seed=seed, max_runs=200)
    with pytest.raises(AssertionError, match="balance is 1"):
        replay(lost_update, found.value.schedule)


async def writers(letters: str = "abc", times: int = 2) -> str:
    """A task for each letter writes it so many times."""
    written: list[str] = []

    async def write(letter: str) -> None:
        for _ in range(times):
            written.append(letter)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for letter in letters:
            group.create_task(write(letter))
    return "".join(written)


def test_without_a_bound_every_order_is_run_exactly_once() -> None:
    seen: set[str] = set()

    async def program() -> None:
        seen.add(await writers("ab", 3))

    done = explore(program, deviations=None)
    assert done.complete
    # The words with three a and three b: 6! / (3! 3!).
    assert len(seen) == 20


def test_the_bound_is_on_deviations_and_the_number_of_runs() -> None:
    async def program() -> None:
        await writers()

    usual = explore(program, deviations=0)
    one = explore(program, deviations=1)
    assert (usual.runs, usual.complete) == (1, True)
    assert one.complete
    assert 1 < one.runs < explore(program, deviations=2).runs
    assert explore(program, max_runs=5) == Exploration(5, one.choices, complete=False)
    assert explore(program, seed=1, max_runs=5).runs == 5


def test_the_loops_callbacks_keep_their_order_among_themselves() -> None:
    async def program() -> None:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(3):
            loop.call_soon(seen.append, number)
        other = asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(0)
        await asyncio.sleep(1)
        await other
        assert seen == [0, 1, 2]

    assert explore(program, deviations=None).complete


def test_tasks_left_behind_and_programs_that_hang_are_failures() -> None:
    kept: list[object] = []

    async def leaves_one() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(1)))

    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ScheduleError) as left:
        explore(leaves_one)
    with pytest.raises(ScheduleError) as hung:
        explore(hangs)
    assert isinstance(left.value.failure, LeftoverTasksError)
    assert isinstance(hung.value.failure, DeadlockError)
    assert "the usual order" in str(hung.value)


def test_a_program_that_is_not_deterministic_is_told_so() -> None:
    runs = 0

    async def program() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await writers()

    with pytest.raises(NondeterminismError):
        explore(program)


def test_its_failure_under_a_schedule_that_it_does_not_follow_is_not_taken_for_a_race() -> None:
    runs = 0

    async def program() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await writers()
        assert runs == 1

    with pytest.raises(NondeterminismError):
        explore(program)


def test_what_is_no_schedule_is_refused() -> None:
    for wrong in ("1", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match="is no schedule"):
            replay(writers, wrong)
    assert replay(writers, "") == "abcabc"
    with pytest.raises(NondeterminismError):
        replay(writers, "0:9")
