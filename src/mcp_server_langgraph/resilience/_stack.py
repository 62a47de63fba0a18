"""The ADR's stacked decorators build one pipeline: each recognises the one below it and takes its policies over.

`functools.wraps` copies attributes, the mark included, so a mark counts only on the very wrapper that it names: with
a foreign decorator in between, the two stacks stay two pipelines.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from . import _functions, _wrapper
from .errors import ConfigurationError
from .pipeline import Pipeline
from .policy import Policy

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

F = TypeVar("F", bound=Callable[..., Any])

MARK: Final = "__resilience_stack__"


@dataclass(slots=True)
class _Stack:
    fn: Callable[..., Any]
    policies: tuple[Policy, ...]
    pipeline: Pipeline
    owner: weakref.ref[Any]


def add(policy: Policy, fn: F) -> F:
    """Put a policy around ``fn``; around the whole stack where ``fn`` is one. Static and class methods stay such."""
    if _functions.is_kind_of_method(fn):
        return cast(F, _functions.inside_method(fn, lambda inner: add(policy, inner)))
    below = _stack_of(fn)
    target, policies = (fn, (policy,)) if below is None else (below.fn, (policy, *below.policies))
    operation = _functions.qualified_name(target)
    name = next((each.name for each in policies if each.kind == "circuit_breaker" and each.name), operation)
    pipeline = Pipeline(name, *policies, operation=operation)
    wrapper = pipeline(target)
    if below is not None:
        below.pipeline.retire()
    setattr(wrapper, MARK, _Stack(target, policies, pipeline, weakref.ref(wrapper)))
    return cast(F, wrapper)


def _stack_of(fn: Callable[..., Any]) -> _Stack | None:
    stack = getattr(fn, MARK, None)
    return stack if isinstance(stack, _Stack) and stack.owner() is fn else None


def pipeline_of(fn: Callable[..., Any]) -> Pipeline | None:
    """The pipeline of a decorated function; None where it has none."""
    pipeline = getattr(fn, _wrapper.GUARDED_BY, None)
    return pipeline if isinstance(pipeline, Pipeline) else None


_named: dict[str, tuple[CircuitBreaker, str]] = {}
_named_lock = threading.Lock()


def shared(name: str, wanted: CircuitBreaker, place: str) -> CircuitBreaker:
    """The one breaker of that name. Raises `ConfigurationError` where it was asked for with other settings.

    A mention without settings joins. Settings after such a mention do not: pipelines may be at work without them.
    """
    with _named_lock:
        known = _named.get(name)
        if known is None:
            _named[name] = (wanted, place)
            return wanted
    breaker, first = known
    if not wanted.is_bare and not breaker.same_settings(wanted):
        raise ConfigurationError(
            f"breaker {name!r} is asked for with other settings: {breaker!r} at {first}, {wanted!r} at {place}; "
            "one name is one breaker"
        )
    return breaker


def named_breakers() -> dict[str, CircuitBreaker]:
    """The breakers made by name."""
    return {name: breaker for name, (breaker, _) in _named.items()}


def forget() -> None:
    """Forget every breaker made by name (for tests)."""
    _named.clear()


def refuse_bare(decorator: str, first: object) -> None:
    """Say at decoration that the parentheses are missing; else the function would be taken for an argument."""
    if callable(first):
        raise TypeError(f"@{decorator} needs parentheses: @{decorator}()")


def caller() -> str:
    """Where the decorator was written: file and line."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
