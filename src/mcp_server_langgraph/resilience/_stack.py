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
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from . import _functions
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
    owner: weakref.ref[Any] | None = None


def add(policy: Policy, fn: F) -> F:
    """Put a policy around ``fn``; around the whole stack where ``fn`` is one."""
    below = getattr(fn, MARK, None)
    if isinstance(below, _Stack) and below.owner is not None and below.owner() is fn:
        below.pipeline.retire()
        target, policies = below.fn, (policy, *below.policies)
    else:
        target, policies = fn, (policy,)
    operation = _functions.qualified_name(target)
    name = next((each.name for each in policies if each.kind == "circuit_breaker" and each.name), operation)
    pipeline = Pipeline(name, *policies, operation=operation)
    wrapper = pipeline(target)
    stack = _Stack(target, policies, pipeline)
    stack.owner = weakref.ref(wrapper)
    setattr(wrapper, MARK, stack)
    return cast(F, wrapper)


class HasPipeline(Protocol):
    """A decorated function."""

    __resilience_stack__: _Stack


def pipeline_of(fn: Callable[..., Any]) -> Pipeline | None:
    """The pipeline of a decorated function; None where it has none."""
    stack = getattr(fn, MARK, None)
    return stack.pipeline if isinstance(stack, _Stack) else None


_named: dict[str, tuple[CircuitBreaker, str]] = {}
_named_lock = threading.Lock()


def shared(name: str, wanted: CircuitBreaker, place: str) -> CircuitBreaker:
    """The one breaker of that name. Raises `ConfigurationError` where it was asked for with other settings."""
    with _named_lock:
        known = _named.get(name)
        if known is None:
            _named[name] = (wanted, place)
            return wanted
    breaker, first = known
    if not breaker.same_settings(wanted):
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


def caller() -> str:
    """Where the decorator was written: file and line."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
