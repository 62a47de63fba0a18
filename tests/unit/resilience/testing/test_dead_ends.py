"""Where asyncio would hang, the virtual-time loop says who waits where."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator

import pytest

from mcp_server_langgraph.resilience.testing import DeadlockError, EndlessLoopError, run
from tests.support.clock import now


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_a_deadlock_is_reported_with_the_place_where_each_task_waits() -> None:
    async def stream() -> AsyncIterator[int]:
        yield 1
        await for_ever()

    async def consume() -> None:
        async for _ in stream():
            pass

    async def main() -> None:
        await asyncio.create_task(consume(), name="consumer")

    with pytest.raises(DeadlockError) as caught:
        run(main(), start=2.0)
    told = str(caught.value)
    assert told.startswith("at 2 s nothing is ready and no timer is set")
    assert "in test_a_deadlock_is_reported_with_the_place_where_each_task_waits.<locals>.main: await" in told
    assert "waits for consumer" in told
    assert "consume: async for _ in stream():" in told
    assert "stream: await for_ever()" in told
    assert "in for_ever: await asyncio.Event().wait()" in told


def test_tasks_are_reported_in_the_order_in_which_they_were_made() -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(for_ever(), name=f"worker-{number}") for number in range(12)]
        await asyncio.wait(tasks)

    with pytest.raises(DeadlockError) as caught:
        run(main())
    places = [str(caught.value).index(f" worker-{number}:") for number in range(12)]
    assert places == sorted(places)


def test_a_timer_that_never_comes_is_a_deadlock_too() -> None:
    with pytest.raises(DeadlockError):
        run(asyncio.sleep(math.inf))


def test_the_tasks_of_a_deadlock_are_cancelled_and_may_clean_up() -> None:
    cleaned: list[float] = []

    async def main() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.sleep(1)
            cleaned.append(now())

    with pytest.raises(DeadlockError):
        run(main())
    assert cleaned == [1.0]


def test_max_time_bounds_the_virtual_seconds() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(
        EndlessLoopError, match=r"at 110 s max_time ends before the next timer, at 111 s"
    ) as caught:
        run(main(), start=100, max_time=10)
    assert ".main: await asyncio.sleep(1)" in str(caught.value)


def test_max_time_itself_is_still_allowed() -> None:
    run(asyncio.sleep(10), max_time=10)


def test_max_iterations_ends_a_loop_that_never_waits_and_what_it_holds_is_cleaned_up() -> None:
    cleaned = False

    async def main() -> None:
        nonlocal cleaned
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            cleaned = True

    with pytest.raises(EndlessLoopError, match="max_iterations"):
        run(main(), max_iterations=100)
    assert cleaned


def test_sockets_are_refused_because_their_peers_live_in_real_time() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asyncio.get_running_loop().add_reader(ours, print)

    with pytest.raises(RuntimeError, match="real time"):
        run(main())
