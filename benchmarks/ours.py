"""The layer's own rows: each policy alone, the stacks, and the same pipeline in its general form."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp_server_langgraph.resilience import (
    Bulkhead,
    Call,
    CircuitBreaker,
    Hedge,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    circuit_breaker,
    registry,
    retry_with_backoff,
    with_bulkhead,
    with_timeout,
)
from mcp_server_langgraph.resilience.metrics import Histogram, HistogramValue

from ._stacks import ALL_FOUR, Fn, Guarded, Job, Limits, Stack

__all__ = ["ADR", "FIVE", "FOUR", "GENERAL", "PARTS", "STACKS"]

Policies = Callable[[Limits], tuple[Policy, ...]]


def breaker(limits: Limits) -> CircuitBreaker:
    return CircuitBreaker(fail_max=limits.fail_max)


def retry(limits: Limits) -> Retry:
    return Retry(limits.attempts, multiplier=0.0)


def four(limits: Limits) -> tuple[Policy, ...]:
    """The standard order: what guards us outside the loop, what guards the dependency inside."""
    return Bulkhead(limits.limit), retry(limits), breaker(limits), Timeout(limits.seconds)


def five(limits: Limits) -> tuple[Policy, ...]:
    return Timeout(limits.seconds * 2), *four(limits)


def decorated(policies: Policies, fn: Fn, limits: Limits) -> Guarded:
    pipeline = Pipeline("benchmark", *policies(limits))
    return Guarded(pipeline(fn), functools.partial(numbers_of, pipeline))


def called(fn: Fn, limits: Limits) -> Guarded:
    """Through ``pipeline.call(fn)`` instead of a decorated function."""
    pipeline = Pipeline("benchmark", *four(limits))
    return Guarded(functools.partial(pipeline.call, fn), functools.partial(numbers_of, pipeline))


def adr(fn: Fn, limits: Limits) -> Guarded:
    """The decorators as ADR-0030 stacks them."""
    known = registry.pipelines()
    guarded = with_bulkhead(limit=limits.limit)(fn)
    guarded = with_timeout(seconds=limits.seconds)(guarded)
    guarded = retry_with_backoff(max_attempts=limits.attempts, multiplier=0.0)(guarded)
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


PARTS: Final = (
    _stack("pipeline, no policy (histogram)", lambda _: ()),
    _stack("pipeline, circuit breaker", lambda it: (breaker(it),), Job.OPENS),
    _stack("pipeline, retry", lambda it: (retry(it),), Job.RETRIES),
    _stack("pipeline, bulkhead", lambda it: (Bulkhead(it.limit),), Job.LIMITS),
    _stack(
        "pipeline, retry and attempt timeout",
        lambda it: (retry(it), Timeout(it.seconds)),
        Job.RETRIES,
        Job.CUTS,
    ),
    _stack("pipeline, hedge that does not begin", lambda _: (Hedge(),)),
    _stack("pipeline, total timeout", lambda it: (Timeout(it.seconds),), Job.CUTS),
)
FOUR: Final = _stack("**pipeline, four policies**", four, *ALL_FOUR)
ADR: Final = Stack("**ADR's four decorators**", adr, ALL_FOUR | {Job.COUNTS})
FIVE: Final = _stack("pipeline, five (with total timeout)", five, *ALL_FOUR)
GENERAL: Final = Stack("pipeline, four, not fused", general, ALL_FOUR | {Job.COUNTS})
STACKS: Final = (
    *PARTS,
    FOUR,
    ADR,
    Stack("pipeline.call, four policies", called, ALL_FOUR | {Job.COUNTS}),
    FIVE,
    GENERAL,
)
