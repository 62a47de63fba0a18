"""The fused frame does what the policies' own ``run`` spells out: same results, errors, times and counts."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    Kind,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    remaining,
    timeout,
)
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.policy import BadResult, Call
from mcp_server_langgraph.resilience.testing import run

Step = tuple[str, float]
Invoke = Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]

WHAT = ["ok", "ok", "down", "bug", "bad", "cancel", "swallow", "re-enter", "child"]
STEPS = st.tuples(st.sampled_from(WHAT), st.sampled_from([0.0, 0.3, 2.0]))
MAKERS: dict[str, Callable[[], Policy]] = {
    "breaker": lambda: CircuitBreaker(fail_max=2, timeout=3.0, chance=lambda: 0.5),
    "adaptive": lambda: AdaptiveLimit(initial=1, max_limit=2, max_queue=1, queue_interval=0.5),
    "bulkhead": lambda: Bulkhead(1, max_queue=1, max_wait=0.5),
    "keyed": lambda: Retry(3, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="key", jitter="none"),
    "retry": lambda: Retry(3, multiplier=0.5, jitter="none"),
    "short": lambda: Timeout(1.0),
    "long": lambda: Timeout(5.0),
    "computed": lambda: Timeout(seconds_for=lambda **arguments: 2.5 if arguments else 1.5),
}


def general(pipeline: Pipeline) -> Invoke:
    """The chain of ``run`` methods, as a pipeline would link them without fusing."""

    async def innermost(call: Call) -> Any:
        result = await call.fn(*call.args, **call.kwargs)
        if pipeline.site.judge_result is not None and pipeline.site.judge_result(result):
            raise BadResult(result)
        return result

    proceed: Callable[[Call], Awaitable[Any]] = innermost
    for bound in reversed(pipeline.bound):
        proceed = functools.partial(bound.run, proceed=proceed)

    async def invoke(fn: Callable[..., Awaitable[Any]]) -> Any:
        try:
            return await proceed(Call(fn, (), {}, pipeline.site))
        except BadResult as bad:
            return bad.result

    return invoke


def tried(pipeline: Pipeline) -> Invoke:
    """Through the frame that gives values."""

    async def invoke(fn: Callable[..., Awaitable[Any]]) -> Any:
        return (await pipeline.try_call(fn)).unwrap()

    return invoke


class Script:
    """A dependency that does what the script says, call by call, and notes what reached it."""

    def __init__(self, steps: Sequence[Step], invoke: Invoke) -> None:
        self.steps = list(steps)
        self.invoke = invoke
        self.reached: list[float] = []
        self.keys: list[bool] = []
        self.seen: list[float | None] = []

    async def __call__(self, key: str | None = None) -> str:
        self.reached.append(asyncio.get_running_loop().time())
        self.keys.append(key is not None)
        what, seconds = self.steps[(len(self.reached) - 1) % len(self.steps)]
        if seconds:
            await asyncio.sleep(seconds)
        if what == "down":
            raise ConnectionError
        if what == "bug":
            raise TypeError
        if what == "cancel":
            raise asyncio.CancelledError
        if what == "swallow":  # a cancellation that is forgotten, and still counts with the task
            cast("asyncio.Task[Any]", asyncio.current_task()).cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise ConnectionError
        if what == "re-enter" and len(self.reached) < 9:
            await self.invoke(self)
        if what == "child":
            await asyncio.create_task(self.left())
        return what

    async def left(self) -> None:
        """What a task made inside sees of the deadline."""
        self.seen.append(remaining())


class Caller(NamedTuple):
    """A task that calls ``times`` in a row, in a block of ``within`` seconds, and is cancelled after ``patience``."""

    times: int
    within: float | None
    patience: float | None
    gap: float


async def trace(
    names: Sequence[str], steps: Sequence[Step], callers: Sequence[Caller], form: Callable[[Pipeline], Invoke]
) -> list[Any]:
    pipeline = Pipeline("p", *(MAKERS[name]() for name in names), is_failure=lambda result: result == "bad")
    invoke = form(pipeline)
    script = Script(steps, invoke)
    loop = asyncio.get_running_loop()

    async def several(caller: Caller) -> Any:
        async with timeout(caller.within):
            return [await one() for _ in range(caller.times)]

    async def one() -> Any:
        try:
            return await invoke(script), loop.time()
        except BaseException as exc:
            context = type(exc.__context__).__name__
            return type(exc).__name__, str(exc), context, getattr(exc, "__notes__", None), loop.time()

    tasks = []
    for caller in callers:
        tasks.append(asyncio.ensure_future(several(caller)))
        if caller.patience is not None:
            loop.call_later(caller.patience, tasks[-1].cancel)
        if caller.gap:
            await asyncio.sleep(caller.gap)
    ends = [str(end) for end in await asyncio.gather(*tasks, return_exceptions=True)]
    return [ends, script.reached, script.keys, script.seen, *numbers(pipeline)]


def numbers(pipeline: Pipeline) -> list[Any]:
    """Every number but those of the frame itself, which the general form has not."""
    samples = [sample for meter in pipeline.meters() for sample in meter.samples()]
    return sorted(
        str((s.name, s.labels, s.value.counts if isinstance(s.value, HistogramValue) else s.value))
        for s in samples
        if not s.name.startswith("resilience_call")
    )


CALLERS = st.builds(
    Caller,
    times=st.integers(1, 3),
    within=st.sampled_from([None, None, 1.5, 7.0]),
    patience=st.sampled_from([None, None, 0.2, 2.5]),
    gap=st.sampled_from([0.0, 0.1, 1.0, 4.0]),
)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from(list(MAKERS)), max_size=5, unique=True).filter(
        lambda names: not {"keyed", "retry"} <= set(names)
    ),
    steps=st.lists(STEPS, min_size=1, max_size=6),
    callers=st.lists(CALLERS, min_size=1, max_size=5),
)
def test_all_forms_behave_the_same(names: list[str], steps: list[Step], callers: list[Caller]) -> None:
    reference = run(trace(names, steps, callers, general))
    assert run(trace(names, steps, callers, lambda pipeline: pipeline.call)) == reference
    assert run(trace(names, steps, callers, tried)) == reference
