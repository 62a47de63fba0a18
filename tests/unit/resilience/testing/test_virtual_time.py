"""`run` in virtual time: its result, its clean-up, and what strict runs refuse."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from mcp_server_langgraph.resilience.testing import (
    LeftoverTasksError,
    UnhandledErrorsError,
    VirtualClockLoop,
    run,
    settle,
)


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_run_returns_the_result_and_raises_the_error_of_its_coroutine() -> None:
    async def fail() -> None:
        raise KeyError("x")

    async def answer() -> int:
        return 42

    assert run(answer()) == 42
    with pytest.raises(KeyError):
        run(fail())


def test_run_closes_its_loop_and_the_generators_and_tasks_left_on_it() -> None:
    ended: list[str] = []

    async def stream() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ended.append("generator")

    async def linger() -> None:
        try:
            await for_ever()
        finally:
            ended.append("task")

    async def main() -> tuple[object, asyncio.AbstractEventLoop]:
        items = stream()
        await anext(items)
        task = asyncio.create_task(linger())
        await settle()
        return (items, task), asyncio.get_running_loop()

    _, loop = run(main())
    assert isinstance(loop, VirtualClockLoop)
    assert loop.is_closed()
    assert sorted(ended) == ["generator", "task"]


def test_run_refuses_to_nest() -> None:
    async def main() -> None:
        inner = asyncio.sleep(0)
        try:
            run(inner)
        finally:
            inner.close()

    with pytest.raises(RuntimeError, match="running event loop"):
        run(main())


def test_debug_is_passed_on() -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run(main(), debug=True)
    assert not run(main(), debug=False)


def test_a_strict_run_fails_when_a_task_is_left_pending() -> None:
    async def main() -> None:
        task = asyncio.create_task(for_ever(), name="forgotten")
        task.set_name("forgotten")

    with pytest.raises(LeftoverTasksError, match=r"forgotten:\n.*in for_ever"):
        run(main(), strict=True)
    run(main())


def test_a_strict_run_lets_cancelled_tasks_end() -> None:
    async def clean_up_in_steps() -> None:
        try:
            await for_ever()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(clean_up_in_steps())
        await settle()
        task.cancel()

    run(main(), strict=True)


def test_a_strict_run_fails_when_a_callback_raised() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(divmod, 1, 0)

    with pytest.raises(UnhandledErrorsError, match="ZeroDivisionError") as caught:
        run(main(), strict=True)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_strict_run_fails_when_the_error_of_a_task_was_never_looked_at() -> None:
    async def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        asyncio.create_task(fail())  # noqa: RUF006  # forgotten on purpose
        await settle()
        gc.collect()

    with pytest.raises(UnhandledErrorsError, match="never retrieved"):
        run(main(), strict=True)
