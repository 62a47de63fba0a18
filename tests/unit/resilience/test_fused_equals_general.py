"""The fused frame does what the policies' own ``run`` spells out: same results, errors, times and counts."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import Bulkhead, CircuitBreaker, Kind, Pipeline, Policy, Retry, Timeout
from mcp_server_langgraph.resilience.metrics import HistogramValue
from mcp_server_langgraph.resilience.policy import BadResult, Call
from mcp_server_langgraph.resilience.testing import run

Step = tuple[str, float]
Invoke = Callable[[Callable[..., Awaitable[Any]]], Awaitable[Any]]

STEPS = st.tuples(st.sampled_from(["ok", "down", "bug", "bad", "cancel"]), st.sampled_from([0.0, 0.3, 2.0]))
MAKERS: dict[str, Callable[[], Policy]] = {
    "breaker": lambda: CircuitBreaker(fail_max=2, timeout=3.0),
    "bulkhead": lambda: Bulkhead(1, max_queue=1, max_wait=0.5),
    "keyed": lambda: Retry(3, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="key", jitter="none"),
    "retry": lambda: Retry(3, multiplier=0.5, jitter="none"),
    "short": lambda: Timeout(1.0),
    "long": lambda: Timeout(5.0),
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


class Script:
    """A dependency that does what the script says, call by call, and notes what reached it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.reached: list[float] = []
        self.keys: list[bool] = []

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
        return what


async def trace(names: Sequence[str], steps: Sequence[Step], gaps: Sequence[float], fused: bool) -> list[Any]:
    pipeline = Pipeline("p", *(MAKERS[name]() for name in names), is_failure=lambda result: result == "bad")
    invoke: Invoke = pipeline.call if fused else general(pipeline)
    script = Script(steps)
    loop = asyncio.get_running_loop()

    async def one() -> Any:
        try:
            return await invoke(script), loop.time()
        except BaseException as exc:
            context = type(exc.__context__).__name__
            return type(exc).__name__, str(exc), context, getattr(exc, "__notes__", None), loop.time()

    tasks = []
    for gap in gaps:
        tasks.append(asyncio.ensure_future(one()))
        if gap:
            await asyncio.sleep(gap)
    ends = [await task for task in tasks]
    return [ends, script.reached, script.keys, *numbers(pipeline)]


def numbers(pipeline: Pipeline) -> list[Any]:
    """Every number but those of the frame itself, which the general form has not."""
    samples = [sample for meter in pipeline.meters() for sample in meter.samples()]
    return sorted(
        str((s.name, s.labels, s.value.counts if isinstance(s.value, HistogramValue) else s.value))
        for s in samples
        if not s.name.startswith("resilience_call")
    )


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from(list(MAKERS)), max_size=5, unique=True).filter(
        lambda names: not {"keyed", "retry"} <= set(names)
    ),
    steps=st.lists(STEPS, min_size=1, max_size=6),
    gaps=st.lists(st.sampled_from([0.0, 0.1, 1.0, 4.0]), min_size=1, max_size=6),
)
def test_both_forms_behave_the_same(names: list[str], steps: list[Step], gaps: list[float]) -> None:
    assert run(trace(names, steps, gaps, fused=True)) == run(trace(names, steps, gaps, fused=False))
