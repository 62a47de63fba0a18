"""The deadline that a call carries: who inherits it, and until when."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    DeadlineExceeded,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    current_deadline,
    detached,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.deadline import INHERITED
from mcp_server_langgraph.resilience.testing import advance, settle
from tests.support.clock import now


async def look() -> float | None:
    return remaining()


async def in_task(work: Callable[[], Awaitable[Any]]) -> Any:
    return await asyncio.create_task(_awaited(work))


async def in_group(work: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_awaited(work))
    return task.result()


async def in_gather(work: Callable[[], Awaitable[Any]]) -> Any:
    return (await asyncio.gather(_awaited(work), asyncio.sleep(0)))[0]


async def here(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


CHILDREN = pytest.mark.parametrize(
    "where", [in_task, in_group, in_gather], ids=["create_task", "TaskGroup", "gather"]
)
ANYWHERE = pytest.mark.parametrize(
    "where", [here, in_task, in_group, in_gather], ids=["here", "create_task", "TaskGroup", "gather"]
)


async def test_without_one_nothing_is_left_to_look_at() -> None:
    assert remaining() is None
    assert current_deadline() is None
    async with timeout(None):
        assert remaining() is None


@ANYWHERE
async def test_what_is_inside_inherits_it(where: Any) -> None:
    async with timeout(5):
        await asyncio.sleep(2)
        assert await where(look) == 3
    assert remaining() is None


@ANYWHERE
async def test_a_pipelines_total_timeout_is_one_too(where: Any) -> None:
    async def work() -> float | None:
        await asyncio.sleep(2)
        left: float | None = await where(look)
        return left

    assert await Pipeline("p", Timeout(5)).call(work) == 3
    assert remaining() is None


@ANYWHERE
@pytest.mark.parametrize("seconds", [1, 9])
async def test_inside_only_the_shorter_counts(where: Any, seconds: float) -> None:
    async with timeout(5):
        await asyncio.sleep(2)
        assert await where(lambda: Pipeline("p", Timeout(seconds)).call(look)) == min(3, seconds)
        async with timeout(seconds):
            assert await where(look) == min(3, seconds)
        assert remaining() == 3


@CHILDREN
async def test_a_pipeline_in_a_child_task_is_cut_when_it_passes(where: Any) -> None:
    errors: list[BaseException] = []

    async def work() -> None:
        try:
            await Pipeline("inner", Timeout(60)).call(asyncio.sleep, 90)
        except BaseException as exc:
            errors.append(exc)
            raise

    with pytest.raises(TimedOut) as caught:
        async with timeout(5, name="outer"):
            await where(work)
    assert (caught.value.pipeline, now()) == ("outer", 5)
    assert [type(exc) for exc in errors] == [asyncio.CancelledError], "the waiting parent cancelled it too"


async def test_a_pipeline_in_a_child_task_nobody_waits_for_is_cut_when_it_passes() -> None:
    async with timeout(5) as block:
        child = asyncio.create_task(Pipeline("inner", Timeout(60)).call(asyncio.sleep, 90))
        await asyncio.sleep(1)
        block.reschedule(3)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(100)
        assert now() == 3
        await asyncio.sleep(2)
        with pytest.raises(TimedOut) as caught:
            await asyncio.shield(child)
    assert (caught.value.clock, caught.value.seconds) == ("inherited", 5), "it had set its timer for 5"
    assert now() == 5


async def test_who_opened_it_is_cut_before_who_inherited_it() -> None:
    order: list[str] = []

    async def cut(name: str, work: Awaitable[Any]) -> None:
        try:
            await work
        except BaseException:
            order.append(f"{name} at {now()}")
            raise

    async with timeout(5):
        await asyncio.sleep(2)  # the timer of all that last 5 s is set for 5, and will be set anew then
    async with timeout(5):
        inner = Pipeline("inner", Timeout(60)).call(asyncio.sleep, 90)
        child = asyncio.create_task(cut("child", inner))
        with pytest.raises(asyncio.CancelledError):
            await cut("parent", asyncio.sleep(90))
    with pytest.raises(TimedOut):
        await child
    assert order == ["parent at 7.0", "child at 7.0"]


@CHILDREN
@pytest.mark.parametrize("scope", ["block", "pipeline", "pipeline that fails"])
async def test_it_is_ignored_once_its_scope_is_closed(where: Any, scope: str) -> None:
    gate = asyncio.Event()
    inner = Pipeline("inner", Timeout(60), Retry(1), Timeout(60))
    outer = Pipeline("outer", Timeout(5))

    async def straggler() -> tuple[float | None, object, str]:
        await gate.wait()
        return remaining(), current_deadline(), await inner.call(asyncio.sleep, 50, "done")

    async def begin() -> asyncio.Task[Any]:
        task = asyncio.create_task(where(straggler))
        await settle()
        return task

    async def begin_and_fail() -> None:
        stragglers.append(await begin())
        raise KeyError

    stragglers = []
    if scope == "block":
        async with timeout(5):
            stragglers.append(await begin())
    elif scope == "pipeline":
        for _ in range(2):  # the first call on a loop takes another path than those after it
            stragglers.append(await outer.call(begin))  # noqa: PERF401
    else:
        with pytest.raises(KeyError):
            await outer.call(begin_and_fail)
    gate.set()
    assert [await task for task in stragglers] == [(None, None, "done")] * len(stragglers)
    assert now() == 50


async def test_a_timer_set_for_one_that_was_closed_since_cuts_nobody() -> None:
    async with timeout(5):
        task = asyncio.create_task(Pipeline("inner", Timeout(60)).call(asyncio.sleep, 100))
        await asyncio.sleep(1)
    with pytest.raises(TimedOut) as caught:
        await task
    assert (caught.value.clock, now()) == ("total", 60)


async def test_one_that_is_closed_gives_way_to_an_open_one_around_it() -> None:
    async def child() -> list[float | None]:
        before = remaining()
        await asyncio.sleep(2)
        return [before, remaining()]

    async with timeout(30):
        async with timeout(5):
            task = asyncio.create_task(child())
            await asyncio.sleep(1)
        assert await task == [5, 28]


async def test_a_child_is_cut_by_the_open_one_around_a_closed_one() -> None:
    async with timeout(30) as around:
        async with timeout(5):
            task = asyncio.create_task(Pipeline("inner", Timeout(60)).call(asyncio.sleep, 100))
            await asyncio.sleep(1)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(100)
        with pytest.raises(TimedOut) as caught:
            await task
    assert (caught.value.clock, now()) == ("inherited", 30)
    assert around.expired()


async def test_one_moved_away_in_time_does_not_cut_what_inherited_it() -> None:
    async with timeout(5) as block:
        task = asyncio.create_task(Pipeline("inner", Timeout(60)).call(asyncio.sleep, 20, "done"))
        await asyncio.sleep(1)
        block.reschedule(None)
        assert remaining() is None
        assert await task == "done"


async def test_within_one_task_an_inner_end_holds_though_the_outer_one_moved_away() -> None:
    with pytest.raises(TimedOut) as caught:
        async with timeout(1) as outer:
            await Pipeline("inner", Timeout(5)).call(move_and_sleep, outer)
    assert (caught.value.pipeline, caught.value.clock, now()) == ("inner", "total", 5)


async def move_and_sleep(outer: timeout) -> None:
    outer.reschedule(None)
    await asyncio.sleep(10)


async def test_detached_leaves_it() -> None:
    async with timeout(5):
        with detached():
            assert remaining() is None
            task = asyncio.create_task(Pipeline("write-back", Timeout(60)).call(asyncio.sleep, 20, "kept"))
            assert await Pipeline("p", Timeout(9)).call(look) == 9
        assert remaining() == 5
        await asyncio.sleep(1)
    assert await task == "kept"
    assert now() == 20


async def test_detached_does_not_make_the_task_of_the_deadline_immortal() -> None:
    async with timeout(5) as block:
        with detached(), pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
    assert block.expired()
    assert now() == 5


async def test_detached_is_entered_once() -> None:
    free = detached()
    with free, pytest.raises(RuntimeError, match="only once"):
        free.__enter__()


@pytest.mark.parametrize("error", [None, KeyError, asyncio.CancelledError, TimedOut])
async def test_only_an_empty_shell_remains_in_the_context_after_a_call(
    error: type[BaseException] | None,
) -> None:
    async def work() -> None:
        if error is KeyError:
            raise KeyError
        if error is asyncio.CancelledError:
            raise asyncio.CancelledError
        await asyncio.sleep(9 if error is TimedOut else 0)

    before = dict(contextvars.copy_context())
    try:
        await Pipeline("p", Timeout(5)).call(work)
        async with timeout(1):
            pass
    except BaseException as exc:
        assert isinstance(exc, error or ())  # noqa: PT017
    else:
        assert error is None
    after = dict(contextvars.copy_context())
    left = after.pop(INHERITED, None)
    assert after == before
    assert current_deadline() is None
    assert left is None or (left.task, left.owner, left.queue, left.handle, left.parent) == (None,) * 5


async def test_a_refused_call_leaves_nothing_in_the_context_either() -> None:
    async with timeout(0):
        inherited = INHERITED.get()
        with pytest.raises(DeadlineExceeded):
            await Pipeline("p", Timeout(5)).call(look)
        assert INHERITED.get() is inherited


async def test_a_block_in_an_abandoned_generator_can_be_closed_from_another_task() -> None:
    async def items() -> AsyncGenerator[int, None]:
        async with timeout(5):
            yield 1
            yield 2

    stream = items()
    assert await asyncio.create_task(_awaited(lambda: anext(stream))) == 1
    await stream.aclose()
    assert remaining() is None


async def test_a_call_abandoned_in_mid_flight_leaves_no_timer() -> None:
    async def call() -> None:
        coroutine = Pipeline("p", Timeout(5)).call(asyncio.get_running_loop().create_future)
        coroutine.send(None)
        contextvars.Context().run(coroutine.close)

    await asyncio.create_task(call())
    await advance(10)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
