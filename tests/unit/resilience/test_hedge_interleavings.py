"""Every order in which primary, hedge and a cancellation from outside can end, turn of the loop by turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Budget, Bulkhead, Hedge, Pipeline, Timeout
from mcp_server_langgraph.resilience.testing import run, settle
from tests.support.attempts import Attempt, Attempts

DELAY = 1.0
TURNS = range(7)  # of the loop, after which nothing happens any more at one instant
ERRORS: dict[str, BaseException | None] = {"ok": None, "down": ConnectionError(), "bug": TypeError()}

Invoke = Callable[[Pipeline, Attempts], Coroutine[Any, Any, int]]


async def call(pipeline: Pipeline, service: Attempts) -> int:
    return await pipeline.call(service)


async def first_of_stream(pipeline: Pipeline, service: Attempts) -> int:
    async with aclosing(pipeline.stream(service.items)) as items:
        number, _ = await anext(items)
    return number


class Trial:
    """One call with scripted attempts, and what must hold whatever happened to it."""

    def __init__(self, *script: Attempt, invoke: Invoke = call) -> None:
        self.budget = Budget(1.0, per_second=1.0)
        self.policy = Hedge(DELAY, budget=self.budget)
        self.bulkhead = Bulkhead(2, max_wait=0)
        self.service = Attempts(*script)
        pipeline = Pipeline("svc", self.policy, self.bulkhead)
        self.task = asyncio.ensure_future(self._call(invoke, pipeline))
        self.cancelling = -1

    async def _call(self, invoke: Invoke, pipeline: Pipeline) -> int:
        try:
            return await invoke(pipeline, self.service)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self.cancelling = task.cancelling()
            assert self.service.running == 0  # nothing outlives the call

    async def end(self) -> str:
        """How it ended, after checking that nothing is left of it."""
        await asyncio.wait([self.task])
        snapshot = self.policy.snapshot()
        assert len(self.service.begun) - 1 <= snapshot.started <= 1  # a task cancelled at once does not begin
        assert snapshot.won <= snapshot.started
        assert self.bulkhead.snapshot().active == 0
        assert self.budget.snapshot().balance >= 0
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if self.task.cancelled():
            return "cancelled"
        assert self.cancelling == 0
        error = self.task.exception()
        return type(error).__name__ if error is not None else str(self.task.result())


def expected(primary: tuple[float, str], hedge: tuple[float, str]) -> tuple[str, float]:
    """Who gives the answer, and when, by looking at both from the end."""
    seconds, outcome = primary
    if seconds > DELAY:
        begun = DELAY
    elif outcome == "down":
        begun = seconds
    else:
        begun = None
    error = type(ERRORS[outcome]).__name__
    if begun is None:
        return ("0" if outcome == "ok" else error), seconds
    answers = [(seconds, "0")] if outcome == "ok" else []
    if hedge[1] == "ok":
        answers.append((begun + hedge[0], "1"))
    if not answers:
        return error, max(seconds, begun + hedge[0])
    when, who = min(answers)
    return who, when


@pytest.mark.parametrize("invoke", [call, first_of_stream])
def test_the_first_success_wins_in_every_order_of_ends(invoke: Invoke) -> None:
    async def trial(primary: tuple[float, str], hedge: tuple[float, str]) -> tuple[str, float]:
        script = [Attempt(seconds, ERRORS[outcome]) for seconds, outcome in (primary, hedge)]
        how = await Trial(*script, invoke=invoke).end()
        return how, asyncio.get_running_loop().time()

    primaries = list(itertools.product((0.5, 1.25, 1.5, 2.0), ERRORS))
    hedges = list(itertools.product((0.0, 0.5, 1.0, 2.5), ERRORS))
    for primary, hedge in itertools.product(primaries, hedges):
        assert run(trial(primary, hedge), strict=True) == expected(primary, hedge), (primary, hedge)


@pytest.mark.parametrize("invoke", [call, first_of_stream])
@pytest.mark.parametrize("cancelled_at", [1.0, 1.5, 2.0])
def test_a_cancellation_from_outside_is_never_swallowed(invoke: Invoke, cancelled_at: float) -> None:
    async def trial(*script: Attempt, turns: int) -> None:
        it = Trial(*script, invoke=invoke)
        await asyncio.sleep(cancelled_at)
        for _ in range(turns):
            await asyncio.sleep(0)
        delivered = it.task.cancel()
        assert (await it.end() == "cancelled") == delivered

    ends = itertools.product((1.0, 1.5, 2.0), ("ok", "down"), (0.0, 0.5, 1.0), ("ok", "down"))
    for seconds, outcome, hedge_seconds, hedge_outcome in ends:
        script = Attempt(seconds, ERRORS[outcome]), Attempt(hedge_seconds, ERRORS[hedge_outcome], cleanup=0.5)
        for turns in TURNS:
            run(trial(*script, turns=turns), strict=True)


def test_a_timeout_outside_that_ends_with_the_hedge_is_told_from_it() -> None:
    async def trial(turns: int, hedge_seconds: float) -> str:
        pipeline = Pipeline("svc", Timeout(1.5), Hedge(DELAY))
        service = Attempts(Attempt(60), Attempt(hedge_seconds))
        task = asyncio.ensure_future(pipeline.call(service))
        await asyncio.sleep(hedge_seconds + DELAY)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait([task])
        assert service.running == task.cancelling() == 0
        return type(task.exception()).__name__ if task.exception() else str(task.result())

    assert run(trial(0, 0.4)) == "1"
    assert run(trial(0, 0.6)) == "TimedOut"
    assert {run(trial(turns, 0.5)) for turns in TURNS} <= {"1", "TimedOut"}


def test_a_second_cancellation_reaches_a_loser_that_is_still_ending() -> None:
    async def trial(*script: Attempt) -> float:
        it = Trial(*script)
        await asyncio.sleep(2)
        it.task.cancel()
        await asyncio.sleep(1)
        it.task.cancel()
        assert await it.end() == "cancelled"
        return asyncio.get_running_loop().time()

    assert run(trial(Attempt(60), Attempt(60, cleanup=100)), strict=True) == 3


@pytest.mark.parametrize("script", [(60, 60), (1.25, 60)])
def test_a_cancellation_while_the_loser_ends_waits_for_it(script: tuple[float, float]) -> None:
    async def trial() -> None:
        it = Trial(Attempt(script[0]), Attempt(script[1], cleanup=2, stubborn=False))
        await asyncio.sleep(1.5)
        it.task.cancel()
        await settle()
        assert await it.end() == "cancelled"

    run(trial(), strict=True)


async def test_a_call_that_is_thrown_away_cancels_its_hedge() -> None:
    service = Attempts(Attempt(60))
    coroutine = Pipeline("svc", Hedge(DELAY)).call(service)
    coroutine.send(None)  # type: ignore[attr-defined]
    await asyncio.sleep(1.5)
    assert service.running == 2
    coroutine.close()  # type: ignore[attr-defined]
    await settle()
    assert service.ended == {0: "GeneratorExit", 1: "cancelled"}


@pytest.mark.parametrize("moment", [0.5, 1.0, 1.5, 3.0])
def test_the_end_of_the_loop_ends_both(moment: float) -> None:
    service = Attempts(Attempt(2, ConnectionError()), Attempt(60))

    async def main() -> asyncio.Task[int]:
        task = asyncio.ensure_future(Pipeline("svc", Hedge(DELAY)).call(service))
        await asyncio.sleep(moment)
        return task

    assert run(main()).cancelled()
    assert service.running == 0


def test_a_call_that_is_thrown_away_after_its_loop_harms_nobody() -> None:
    service = Attempts(Attempt(60))
    kept: list[Any] = []

    async def main() -> None:
        kept.append(Pipeline("svc", Hedge(DELAY)).call(service))
        kept[0].send(None)
        await asyncio.sleep(1.5)

    run(main())
    kept.pop().close()
    assert service.running == 0
