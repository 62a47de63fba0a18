"""`timeout` does what ``asyncio.timeout`` does: the same scripts of sleeps, blocks, moves and cancels under both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import TimedOut, timeout
from mcp_server_langgraph.resilience.testing import run

Ops = list[Any]

SECONDS = st.sampled_from([5.0, 3.0, 2.0, 1.0, 0.0])
LIMIT = st.sampled_from([3.0, 2.0, 5.0, 1.0, 4.0, 0.0, -1.0, None])


def programs(depth: int) -> st.SearchStrategy[Ops]:
    """Mostly blocks around sleeps; what ends a program early is rare."""
    sleep = st.tuples(st.just("sleep"), SECONDS)
    move = st.tuples(st.just("move"), st.integers(0, 2), LIMIT)
    stop = st.one_of(st.tuples(st.just("cancel self")), st.tuples(st.just("raise")))
    choices: list[st.SearchStrategy[Any]] = [sleep, sleep, move, stop]
    if depth:
        inner = programs(depth - 1)
        within = st.tuples(st.just("within"), LIMIT, inner)
        again = [
            st.tuples(st.just("swallow cancellation"), inner),
            st.tuples(st.just("catch timeout"), inner),
            st.tuples(st.just("finally"), inner, inner),
        ]
        choices = [within, within, within, *again, *choices]
    return st.lists(st.integers(0, len(choices) - 1).flatmap(choices.__getitem__), min_size=1, max_size=3)


PROGRAMS = st.tuples(st.just("within"), LIMIT, programs(3)).map(lambda block: [block])


BOTH = pytest.mark.parametrize("make", [timeout, asyncio.timeout], ids=["ours", "asyncio's"])


@dataclass
class Script:
    """Runs a program. Each waiting time gets a fraction of its own, so that no two ends fall on the same instant: who
    is first then is nobody's promise.
    """

    timeout: Callable[[float | None], Any]
    blocks: list[Any] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)
    drawn: int = 0

    def seconds(self, nominal: float | None) -> float | None:
        self.drawn += 1
        return nominal + 2.0 ** -(8 + self.drawn) if nominal is not None and nominal > 0 else nominal

    def note(self, *what: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.log.append((asyncio.get_running_loop().time(), task.cancelling(), *what))

    async def run(self, ops: Ops) -> None:
        for op in ops:
            await getattr(self, "do_" + op[0].replace(" ", "_"))(*op[1:])
            self.note("did", op[0])

    async def do_sleep(self, seconds: float) -> None:
        await asyncio.sleep(self.seconds(seconds) or 0)

    async def do_within(self, seconds: float | None, ops: Ops) -> None:
        block = self.timeout(self.seconds(seconds))
        self.blocks.append(block)
        try:
            async with block:
                try:
                    await self.run(ops)
                finally:
                    self.note("inside", block.expired(), block.when())
        finally:
            self.note("outside", block.expired(), block.when())

    async def do_move(self, index: int, seconds: float | None) -> None:
        if index >= len(self.blocks):
            return
        seconds = self.seconds(seconds)
        try:
            self.blocks[-1 - index].reschedule(
                None if seconds is None else asyncio.get_running_loop().time() + seconds
            )
        except RuntimeError:
            self.note("cannot move")

    async def do_cancel_self(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def do_raise(self) -> None:
        raise KeyError

    async def do_swallow_cancellation(self, ops: Ops) -> None:
        try:
            await self.run(ops)
        except asyncio.CancelledError:
            self.note("swallowed")

    async def do_catch_timeout(self, ops: Ops) -> None:
        try:
            await self.run(ops)
        except TimeoutError as exc:
            self.note("timed out", type(exc.__cause__))

    async def do_finally(self, ops: Ops, cleanup: Ops) -> None:
        try:
            await self.run(ops)
        finally:
            await self.run(cleanup)


async def trace(make: Callable[[float | None], Any], program: Ops, cancels: list[float]) -> list[Any]:
    loop = asyncio.get_running_loop()
    script = Script(make)
    task = asyncio.ensure_future(script.run(program))
    for index, at in enumerate(cancels):
        loop.call_later(at + 2.0 ** -(40 + index), task.cancel)
    _, pending = await asyncio.wait([task], timeout=1000)
    assert not pending
    error = None if task.cancelled() else task.exception()
    kind = TimeoutError if isinstance(error, TimedOut) else type(error)
    return [*script.log, kind, task.cancelled(), task.cancelling(), loop.time()]


@settings(max_examples=250, deadline=None)
@given(program=PROGRAMS, cancels=st.lists(st.sampled_from([0.5, 1.5, 2.5, 4.5]), max_size=3))
def test_the_same_script_has_the_same_outcome(program: Ops, cancels: list[float]) -> None:
    assert run(trace(timeout, program, cancels)) == run(trace(asyncio.timeout, program, cancels))


@settings(max_examples=40, deadline=None)
@given(program=PROGRAMS, cancels=st.lists(st.sampled_from([0.5, 1.5]), max_size=1), tasks=st.integers(2, 5))
def test_so_it_has_among_other_tasks_under_timeouts_of_the_same_lengths(
    program: Ops, cancels: list[float], tasks: int
) -> None:
    async def crowd(make: Callable[[float | None], Any]) -> list[Any]:
        async def one(place: int) -> list[Any]:
            await asyncio.sleep(place * 0.3 + 2.0 ** -(30 + place))
            return await trace(make, program, cancels)

        return await asyncio.gather(*map(one, range(tasks)))

    assert run(crowd(timeout)) == run(crowd(asyncio.timeout))


@BOTH
async def test_the_time_runs_from_the_making_not_from_the_entry(make: Callable[[float], Any]) -> None:
    block = make(3)
    assert block.when() == 3
    await asyncio.sleep(2)
    with pytest.raises(TimeoutError):
        async with block:
            await asyncio.sleep(10)
    assert asyncio.get_running_loop().time() == 3


@BOTH
async def test_so_one_that_was_made_earlier_ends_before_one_that_was_entered_earlier(
    make: Callable[[float], Any],
) -> None:
    loop = asyncio.get_running_loop()
    made_first = make(5)
    await asyncio.sleep(1)

    async def other() -> None:
        async with make(5):
            await asyncio.sleep(2)

    task = asyncio.create_task(other())
    await asyncio.sleep(1)
    async with made_first:
        await task
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
    assert loop.time() == 5


@BOTH
async def test_what_cannot_be_done_with_it_is_a_runtime_error(make: Callable[[float], Any]) -> None:
    block = make(3)
    with pytest.raises(RuntimeError, match="not been entered"):
        block.reschedule(4)
    async with block:
        with pytest.raises(RuntimeError, match="already been entered"):
            await block.__aenter__()
    with pytest.raises(RuntimeError, match="finished"):
        block.reschedule(4)
    with pytest.raises(RuntimeError, match="already been entered"):
        await block.__aenter__()
    with pytest.raises(TimeoutError):  # noqa: PT012 (what can be done in the middle of it is the question)
        async with make(1) as cut:
            try:
                await asyncio.sleep(2)
            finally:
                with pytest.raises(RuntimeError, match="expiring"):
                    cut.reschedule(4)
    with pytest.raises(RuntimeError, match="expired"):
        cut.reschedule(4)


def test_outside_a_loop_it_cannot_be_made() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        timeout(1)


def test_outside_a_task_it_cannot_be_entered() -> None:
    async def main() -> None:
        def enter() -> None:
            with pytest.raises(RuntimeError, match="task"):
                timeout(1).__aenter__().send(None)

        asyncio.get_running_loop().call_soon(enter)
        await asyncio.sleep(1)

    run(main(), strict=True)


async def test_its_repr_tells_its_state() -> None:
    block = timeout(3)
    assert repr(block) == "<Timeout [created]>"
    async with block:
        assert repr(block) == "<Timeout [active] when=3.0>"
        block.reschedule(None)
        assert repr(block) == "<Timeout [active] when=None>"
    assert repr(block) == "<Timeout [finished]>"
    with pytest.raises(TimedOut):
        async with timeout(0) as cut:
            await asyncio.sleep(1)
    assert repr(cut) == "<Timeout [expired]>"
