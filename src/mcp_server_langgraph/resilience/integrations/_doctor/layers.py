"""Layers that repeat what is inside them, known by the names of their classes: nothing of theirs is imported.

LangGraph's RetryPolicy and agent middleware, langchain's ``with_retry`` and ``with_fallbacks``, tenacity and stamina,
redis-py's client of several databases, and our own pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ..._known_clients import is_a
from ...pipeline import Pipeline
from ...policy import Cost
from .layer import Layer, repeating
from .tenacity import layer_of_tenacity
from .timeouts import Pause

__all__ = [
    "is_middleware",
    "is_pipeline",
    "layer_of",
    "layer_of_middleware",
    "layer_of_pipelines",
    "layers_of_node",
]


def layer_of(thing: Any) -> Layer | None:
    """The layer that ``thing`` is; None for what repeats nothing."""
    try:
        return next((found for found in (look(thing) for look in _LOOKS) if found is not None), None)
    except Exception:  # another version keeps it elsewhere
        return None


def is_middleware(thing: Any) -> bool:
    """Whether it is agent middleware that repeats model or tool calls."""
    return any(is_a(type(thing), "langchain", name) for name in _MIDDLEWARE)


def layer_of_middleware(thing: Any) -> Layer:
    """The layer that agent middleware is."""
    if is_a(type(thing), "langchain", "ModelFallbackMiddleware"):
        return repeating("ModelFallbackMiddleware", 1 + len(thing.models), 0.0, "")
    trap = ""
    if thing.on_failure == "continue":
        trap = (
            f'{type(thing).__name__}: on_failure="continue" makes an outage a successful answer; set "error"'
        )
    delays = _delays(thing.max_retries, thing.initial_delay, thing.backoff_factor, thing.max_delay)
    spread = 1.25 if thing.jitter else 1.0
    name = type(thing).__name__
    return repeating(name, 1 + thing.max_retries, spread * delays, f"leave out {name}", trap)


def layers_of_node(name: str, node: Any, default: Any) -> Iterator[Layer]:
    """The layers around what a node of LangGraph runs. ``default``: the graph's own retry policy."""
    policy = _longest(node.retry_policy or default)
    if policy is None:
        yield Layer(f"node {name!r}", 1, _same)
    else:
        yield _of_policy(name, policy)
    yield Layer("", 1, _capped(_run_timeout(getattr(node, "timeout", None))))  # of each attempt


def _same(inner: Cost) -> Cost:
    return inner


def _of_policy(node: str, policy: Any) -> Layer:
    retries = policy.max_attempts - 1
    waits = _delays(retries, policy.initial_interval, policy.backoff_factor, policy.max_interval)
    waits += retries if policy.jitter else 0
    by_default = getattr(policy.retry_on, "__name__", "") == "default_retry_on"
    trap = _TRAP_OF_POLICY if by_default and policy.max_attempts > 1 else ""
    name = f"RetryPolicy of node {node!r}"
    return repeating(name, policy.max_attempts, waits, f"leave out the {name}", trap)


def _longest(policies: Any) -> Any:
    """Of several retry policies the first that fits an error counts; which that is, nobody knows before."""
    if not policies or hasattr(policies, "max_attempts"):
        return policies or None
    return max(policies, key=lambda policy: policy.max_attempts)


def _run_timeout(given: Any) -> float:
    limit = getattr(given, "run_timeout", given)
    if limit is None:
        return math.inf
    return limit.total_seconds() if hasattr(limit, "total_seconds") else float(limit)


def _capped(seconds: float) -> Callable[[Cost], Cost]:
    return lambda inner: Cost(inner.requests, min(inner.seconds, seconds))


def _delays(retries: int, first: float, factor: float, longest: float) -> float:
    return sum(min(first * factor**number, longest) for number in range(min(retries, 1000)))


def is_pipeline(thing: Any) -> bool:
    """Whether it is a pipeline of this layer."""
    return type(thing) is Pipeline


def layer_of_pipelines(pipelines: Sequence[Any]) -> Layer:
    """The layer that these pipelines are. Which of them a call takes cannot be seen: the most requests count, and the
    tightest time (of one pipeline within another, the outer has the total).
    """
    name = " or ".join(dict.fromkeys(repr(pipeline.name) for pipeline in pipelines))

    def around(inner: Cost) -> Cost:
        costs = [_through(pipeline, inner) for pipeline in pipelines]
        return Cost(max(cost.requests for cost in costs), min(cost.seconds for cost in costs))

    attempts = around(Cost(1, 0.0)).requests
    return Layer(f"pipeline {name}", attempts, around, f"leave out the Retry of pipeline {name}", ours=True)


def _through(pipeline: Pipeline, cost: Cost) -> Cost:
    for policy in reversed(pipeline.policies):
        cost = policy.worst_case(cost)
    return cost


def _pipeline(thing: Any) -> Layer | None:
    pipeline = getattr(thing, "__resilience_pipeline__", thing)
    return layer_of_pipelines([pipeline]) if is_pipeline(pipeline) else None


def _runnable(thing: Any) -> Layer | None:
    if is_a(type(thing), "langchain_core", "RunnableRetry"):
        attempts = thing.max_attempt_number
        waits = attempts - 1 if thing.wait_exponential_jitter else 0
        trap = _TRAP_OF_RUNNABLE if thing.retry_exception_types == (Exception,) and attempts > 1 else ""
        return repeating(
            "with_retry", attempts, float(2**attempts - 2 + waits), "leave out with_retry()", trap
        )
    if is_a(type(thing), "langchain_core", "RunnableWithFallbacks"):
        return repeating("with_fallbacks", 1 + len(thing.fallbacks), 0.0, "")
    return None


def _databases(thing: Any) -> Layer | None:
    """redis-py's client of several databases: it repeats commands, and the clients below it do not."""
    if not is_a(type(thing), "redis", "MultiDBClient"):
        return None
    attempts = 1 + int(thing._command_retry._retries)
    waits = Pause(0.01, 1.0).sum(attempts)
    return repeating(
        "redis.MultiDBClient", attempts, waits, "command_retry=Retry(NoBackoff(), 0)", hidden=True
    )


_TRAP_OF_POLICY: Final = (
    "RetryPolicy: its default retry_on retries client errors of openai, anthropic and httpx2 too, and no TimeoutError;"
    " set retry_on"
)
_TRAP_OF_RUNNABLE: Final = "with_retry: it retries every exception; set retry_if_exception_type"
_LOOKS: Final = (_pipeline, layer_of_tenacity, _runnable, _databases)
_MIDDLEWARE: Final = ("ModelRetryMiddleware", "ModelFallbackMiddleware", "ToolRetryMiddleware")
