"""The virtual-time loop: its clock, and the order of what it runs."""

import asyncio
import math

import pytest

from mcp_server_langgraph.resilience.testing import (
    advance,
    run,
    settle,
)


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.Event().wait()


# The clock


@pytest.mark.parametrize("start", [0.0, -5.0, 1e9, 1.7e9 + 0.1])
def test_the_clock_starts_where_it_is_told_and_a_sleep_moves_it_by_exactly_its_length(start: float) -> None:
    async def main() -> tuple[float, float]:
        before = now()
        await asyncio.sleep(3.25)
        return before, now()

    assert run(main(), start=start) == (start, start + 3.25)


def test_a_year_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 24 * 3600)
        return now()

    assert run(main()) == 365 * 24 * 3600


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        sleeper = asyncio.create_task(asyncio.sleep(1))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not sleeper.done()
        before = now()
        await sleeper
        return before

    assert run(main()) == 0.0


def test_a_timer_fires_exactly_at_its_time_and_none_that_is_a_hair_later_fires_with_it() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        fired: list[float] = []
        for when in (0.1 + 0.2, 0.3, math.nextafter(0.3, 0)):
            loop.call_at(when, lambda: fired.append(loop.time()))
        await asyncio.sleep(1)
        return fired

    assert run(main()) == [math.nextafter(0.3, 0), 0.3, 0.1 + 0.2]


def test_timeouts_expire_in_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await for_ever()
        return now()

    assert run(main()) == 60.0


def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(5, print).cancel()
        await asyncio.sleep(7)
        return now()

    assert run(main()) == 7.0


# Order


def test_timers_of_one_time_fire_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        fired: list[int] = []
        for number in range(100):
            asyncio.get_running_loop().call_at(1.0 if number % 3 else 0.5, fired.append, number)
        await asyncio.sleep(2)
        return fired

    assert run(main()) == sorted(range(100), key=lambda number: (number % 3 > 0, number))


def test_two_runs_of_one_program_go_the_same_way() -> None:
    async def main() -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []
        lock = asyncio.Lock()

        async def worker(number: int) -> None:
            for step in range(5):
                async with lock:
                    await asyncio.sleep((number * 7 + step) % 3 / 10)
                    seen.append((now(), number))

        await asyncio.gather(*(worker(number) for number in range(10)))
        return seen

    assert run(main()) == run(main())


def test_settle_runs_what_is_ready_and_lets_no_time_pass() -> None:
    async def main() -> None:
        steps: list[int] = []

        async def walk() -> None:
            for step in range(10):
                await asyncio.sleep(0)
                steps.append(step)
            await asyncio.sleep(1)
            steps.append(-1)

        walker = asyncio.create_task(walk())
        await settle()
        assert steps == list(range(10))
        assert now() == 0.0
        await walker

    run(main(), strict=True)


def test_two_that_settle_wake_one_after_the_other() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def first() -> None:
            await settle()
            for _ in range(3):
                await asyncio.sleep(0)
            seen.append("first")

        async def second() -> None:
            await settle()
            seen.append("second")

        await asyncio.gather(first(), second())
        return seen

    assert run(main()) == ["first", "second"]


def test_settle_that_is_cancelled_leaves_the_next_one_its_turn() -> None:
    async def main() -> None:
        impatient = asyncio.create_task(settle())
        patient = asyncio.create_task(settle())
        await asyncio.sleep(0)
        impatient.cancel()
        await patient

    run(main(), strict=True)


def test_advance_lets_what_is_due_by_then_run_to_its_next_wait() -> None:
    async def main() -> None:
        seen: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(5)
                await asyncio.sleep(0)
                seen.append(now())

        ticker = asyncio.create_task(tick())
        await advance(10)
        assert seen == [5.0, 10.0]
        assert now() == 10.0
        ticker.cancel()

    run(main(), strict=True)


@pytest.mark.parametrize("helper", [settle, lambda: advance(1)])
def test_the_helpers_refuse_a_loop_whose_time_is_real(helper) -> None:
    async def main() -> None:
        await helper()

    with pytest.raises(RuntimeError, match="virtual only inside"):
        asyncio.run(main())
