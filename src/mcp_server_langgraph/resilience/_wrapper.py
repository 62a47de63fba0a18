"""A decorated function: the wrapper that looks like it, and holds its pipeline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from ._functions import faces, inside_method, is_kind_of_method, kind_of, qualified_name
from .policy import Policy

if TYPE_CHECKING:
    from .pipeline import Pipeline

# Where a wrapper holds its pipeline.
GUARDED_BY: Final = "__resilience_pipeline__"


def wrap(fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    """``fn`` behind the pipeline, of the same kind and with the same face; static and class methods stay what they are.

    Raises TypeError for a class, a generator function, or a function that a policy cannot guard.
    """
    if is_kind_of_method(fn):
        return cast("Callable[..., Any]", inside_method(fn, lambda inner: wrap(inner, pipeline)))
    if inspect.isclass(fn) or not callable(fn):
        raise TypeError(f"cannot guard {fn!r}: a function is needed")
    if any(inspect.isgeneratorfunction(face) for face in faces(fn)):
        raise TypeError(f"cannot guard the generator {qualified_name(fn)}: make it an async generator")
    kind = kind_of(fn)
    if kind == "stream":
        return _streaming_wrapper(fn, pipeline)
    if kind == "sync":
        refuse_sync(fn, pipeline)
    return _dress(pipeline.frame_for(fn, sync=kind == "sync"), fn, pipeline)


def _streaming_wrapper(fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    from .streaming import as_function

    return _dress(as_function(pipeline, fn), fn, pipeline)


def _dress(frame: Callable[..., Any], fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    if inspect.isroutine(fn):
        functools.update_wrapper(frame, fn)
    else:
        # A partial or a callable object has no name of its own, and attributes that are none of the wrapper's.
        frame.__name__ = frame.__qualname__ = qualified_name(fn)
        functools.update_wrapper(frame, fn, updated=())
    setattr(frame, GUARDED_BY, pipeline)
    return frame


def refuse_sync(fn: Callable[..., Any], pipeline: Pipeline) -> None:
    """Say at decoration, not at the first call, that a policy cannot guard a plain function."""
    for policy, bound in zip(pipeline.policies, pipeline.bound, strict=True):
        reason = getattr(policy, "refuses_sync", None)
        if reason is None and isinstance(bound, Policy) and _only_async(type(bound)):
            reason = "make it async def"
        if reason is not None:
            raise TypeError(f"{policy.kind} cannot guard the plain function {qualified_name(fn)}: {reason}")


def _only_async(kind: type[Policy]) -> bool:
    return kind.run_sync is Policy.run_sync
