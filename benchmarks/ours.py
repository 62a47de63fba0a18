"""The layer's own rows: each policy alone, the stacks, and the same pipeline in its general form."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp_server_langgraph.resilience import (
    Budget,
    Bulkhead,
    Call,
    CircuitBreaker,
    Hedge,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    circuit_breaker,
    current_deadline,
    registry,
    retry_with_backoff,
    with_bulkhead,
    with_timeout,
)
from mcp_server_langgraph.resilience.metrics import Histogram, HistogramValue

from ._stacks import ALL_FOUR, Fn, Guarded, Job, Limits, Stack

__all__ = ["ADR", "CUT", "EXPORTED", "FIVE", "FOUR", "GENERAL", "PARTS", "STACKS", "TRIED"]

Policies = Callable[[Limits], tuple[Policy, ...]]


def breaker(limits: Limits) -> CircuitBreaker:
    return CircuitBreaker(fail_max=limits.fail_max)


def retry(limits: Limits) -> Retry:
    return Retry(limits.attempts, multiplier=0.0, budget=Budget.unlimited())


def four(limits: Limits) -> tuple[Policy, ...]:
    """The standard order: what guards us outside the loop, what guards the dependency inside."""
    return Bulkhead(limits.limit), retry(limits), breaker(limits), Timeout(limits.seconds)


def five(limits: Limits) -> tuple[Policy, ...]:
    return Timeout(limits.seconds * 2), *four(limits)


def decorated(policies: Policies, fn: Fn, limits: Limits) -> Guarded:
    pipeline = Pipeline("benchmark", *policies(limits))
    return Guarded(pipeline(fn), functools.partial(numbers_of, pipeline), deadline)


def deadline() -> float | None:
    """When the deadline ends that the running code inherits."""
    inherited = current_deadline()
    return None if inherited is None else inherited.when


def called(fn: Fn, limits: Limits) -> Guarded:
    """Through ``pipeline.call(fn)`` instead of a decorated function."""
    pipeline = Pipeline("benchmark", *four(limits))
    return Guarded(functools.partial(pipeline.call, fn), functools.partial(numbers_of, pipeline))


def tried(fn: Fn, limits: Limits) -> Guarded:
    """Through ``pipeline.try_call(fn)``, which gives the end as a value; here only its error or result."""
    pipeline = Pipeline("benchmark", *five(limits))

    async def call() -> Any:
        ended = await pipeline.try_call(fn)
        return ended.value if ended.error is None else ended.error

    return Guarded(call, functools.partial(numbers_of, pipeline), deadline)


def adr(fn: Fn, limits: Limits) -> Guarded:
    """The decorators as ADR-0030 stacks them."""
    known = registry.pipelines()
    guarded = with_bulkhead(limit=limits.limit)(fn)
    guarded = with_timeout(seconds=limits.seconds)(guarded)
    unlimited = Budget.unlimited()
    guarded = retry_with_backoff(max_attempts=limits.attempts, multiplier=0.0, budget=unlimited)(guarded)
    guarded = circuit_breaker(fail_max=limits.fail_max, timeout=60)(guarded)
    [pipeline] = [pipeline for pipeline in registry.pipelines() if pipeline not in known]
    return Guarded(guarded, functools.partial(numbers_of, pipeline))


def general(fn: Fn, limits: Limits) -> Guarded:
    """Each policy's own ``run``, one coroutine inside the other, as a pipeline would work without fusing."""
    pipeline = Pipeline("benchmark", *four(limits))
    histogram = Histogram()

    async def innermost(call: Call) -> Any:
        return await call.fn(*call.args, **call.kwargs)

    proceed: Callable[[Call], Awaitable[Any]] = innermost
    for bound in reversed(pipeline.bound):
        proceed = functools.partial(bound.run, proceed=proceed)

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        clock = asyncio.get_running_loop().time
        started = clock()
        result = await proceed(Call(fn, args, kwargs, pipeline.site))
        histogram.observe(clock() - started)
        return result

    def numbers() -> Mapping[str, float]:
        return {**numbers_of(pipeline), "resilience_calls_total": sum(histogram.value().counts)}

    return Guarded(guarded, numbers)


# Each success adds one to these; the bulkhead's is back at zero after it.
_GROWING: Final = frozenset(
    {
        "resilience_calls_total",
        "circuit_breaker_success_total",
        "retry_attempts_total",
        "bulkhead_active_operations",
    }
)


def numbers_of(pipeline: Pipeline) -> Mapping[str, float]:
    """Those numbers of a pipeline that a success changes."""
    found: dict[str, float] = {}
    for meter in pipeline.meters():
        for name, _, value in meter.samples():
            if name in _GROWING and not isinstance(value, HistogramValue):
                found[name] = found.get(name, 0) + value
    return found


def _stack(name: str, policies: Policies, *jobs: str) -> Stack:
    return Stack(name, functools.partial(decorated, policies), frozenset({Job.COUNTS, *jobs}))


CUT: Final = _stack(
    "pipeline, retry and attempt timeout",
    lambda it: (retry(it), Timeout(it.seconds)),
    Job.RETRIES,
    Job.CUTS,
)
PARTS: Final = (
    _stack("pipeline, no policy (histogram)", lambda _: ()),
    _stack("pipeline, circuit breaker", lambda it: (breaker(it),), Job.OPENS),
    _stack("pipeline, retry", lambda it: (retry(it),), Job.RETRIES),
    _stack("pipeline, bulkhead", lambda it: (Bulkhead(it.limit),), Job.LIMITS),
    CUT,
    _stack("pipeline, hedge that does not begin", lambda _: (Hedge(),)),
    _stack("pipeline, total timeout", lambda it: (Timeout(it.seconds),), Job.CUTS),
)
FOUR: Final = _stack("**pipeline, four policies**", four, *ALL_FOUR)
ADR: Final = Stack("**ADR's four decorators**", adr, ALL_FOUR | {Job.COUNTS})
FIVE: Final = _stack("**pipeline, five policies**", five, *ALL_FOUR, Job.INHERITS)
GENERAL: Final = Stack("pipeline, four, not fused", general, ALL_FOUR | {Job.COUNTS})
EXPORTED: Final = FIVE._replace(name="pipeline, five, numbers read in between", before=registry.metrics)
TRIED: Final = Stack("pipeline, five, as a value (try_call)", tried, frozenset({Job.COUNTS, Job.INHERITS}))
STACKS: Final = (
    *PARTS,
    FOUR,
    ADR,
    Stack("pipeline.call, four policies", called, ALL_FOUR | {Job.COUNTS}),
    FIVE,
    EXPORTED,
    TRIED,
    GENERAL,
)
