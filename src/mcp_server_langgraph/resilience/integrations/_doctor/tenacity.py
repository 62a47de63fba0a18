"""What tenacity or stamina has decorated, as a layer: how often it repeats, and how long it waits at most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from ..._known_clients import is_a
from ...policy import Cost
from .layer import Layer

__all__ = ["layer_of_tenacity"]

_LEAST_TOO_MANY: Final = 2
"""Attempts that are told where only a time, or nothing, ends them."""


def layer_of_tenacity(thing: Any) -> Layer | None:
    """The layer that the decorated function ``thing`` is; None for what neither of the two has decorated."""
    retrying: Any = getattr(thing, "retry", None) if callable(thing) else None
    if is_a(type(retrying), "tenacity", "BaseRetrying"):
        return _repeating("tenacity", retrying.stop, _longest_wait(retrying.wait))
    for cell in getattr(thing, "__closure__", None) or ():
        if is_a(type(cell.cell_contents), "stamina", "_RetryContextIterator"):
            return _of_stamina(cell.cell_contents)
    return None


def _of_stamina(context: Any) -> Layer:
    longest = float(context._wait_max)
    return _repeating("stamina", context._t_kw["stop"], lambda number: longest)


def _repeating(name: str, stop: Any, wait: Callable[[int], float]) -> Layer:
    parts: Sequence[Any] = getattr(stop, "stops", (stop,))
    limits = [part.max_attempt_number for part in parts if hasattr(part, "max_attempt_number")]
    ends = [part.max_delay for part in parts if hasattr(part, "max_delay")]
    attempts = min(limits, default=_LEAST_TOO_MANY)
    waits = [wait(number) for number in range(1, min(attempts, 1000))]

    def around(inner: Cost) -> Cost:
        by_count = inner.seconds * attempts + sum(waits) if limits else math.inf
        by_time = min(ends, default=math.inf) + inner.seconds + max(waits, default=0.0)
        return Cost(inner.requests * attempts, min(by_count, by_time))

    return Layer(name, attempts, around, f"leave out {name}'s decorator")


def _longest_wait(wait: Any) -> Callable[[int], float]:
    """The most that is waited after the attempt of a number; 0 where tenacity's object does not tell (a function)."""
    if is_a(type(wait), "tenacity", "wait_combine"):
        parts = [_longest_wait(part) for part in wait.wait_funcs]
        return lambda number: sum(part(number) for part in parts)
    if is_a(type(wait), "tenacity", "wait_chain"):
        steps = [_longest_wait(step) for step in wait.strategies]
        return lambda number: steps[min(number, len(steps)) - 1](number)
    if is_a(type(wait), "tenacity", "wait_incrementing"):
        return lambda number: min(wait.start + wait.increment * (number - 1), wait.max)
    if hasattr(wait, "exp_base"):
        first, jitter = (
            getattr(wait, "multiplier", None) or getattr(wait, "initial", 0),
            getattr(wait, "jitter", 0),
        )
        return lambda number: min(first * wait.exp_base ** min(number - 1, 1000) + jitter, wait.max)
    fixed = float(getattr(wait, "wait_fixed", getattr(wait, "wait_random_max", 0)))
    return lambda number: fixed
