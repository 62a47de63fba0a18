"""What kind of function is being guarded, and the wrapper that looks like it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .pipeline import Pipeline

Kind = Literal["async", "stream", "sync"]


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Look through partials, methods and callable objects for what is behind them."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    faces = (fn, getattr(type(fn), "__call__", None) if not inspect.isroutine(fn) else None)
    if any(face is not None and inspect.isasyncgenfunction(face) for face in faces):
        return "stream"
    if any(face is not None and inspect.iscoroutinefunction(face) for face in faces):
        return "async"
    return "sync"


def qualified_name(fn: Callable[..., Any]) -> str:
    """The function's qualified name; the type's for callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def wrap(fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    """``fn`` behind the pipeline, of the same kind and with the same face.

    Raises TypeError for a class, a generator function, or a plain ``def`` that a policy cannot guard.
    """
    if inspect.isclass(fn) or not callable(fn):
        raise TypeError(f"cannot guard {fn!r}: a function is needed")
    if inspect.isgeneratorfunction(fn):
        raise TypeError(f"cannot guard the generator {qualified_name(fn)}: make it an async generator")
    kind = kind_of(fn)
    if kind == "stream":
        return _streaming_wrapper(fn, pipeline)
    if kind == "sync":
        refuse_sync(fn, pipeline)
    return _dress(pipeline.frame_for(fn, sync=kind == "sync"), fn)


def _streaming_wrapper(fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    from .streaming import as_function

    return _dress(as_function(pipeline, fn), fn)


def _dress(frame: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(fn)(frame)


def refuse_sync(fn: Callable[..., Any], pipeline: Pipeline) -> None:
    """Say at decoration, not at the first call, that a policy cannot guard a plain function."""
    for policy in pipeline.policies:
        reason = getattr(policy, "refuses_sync", None)
        if reason is not None:
            raise TypeError(f"{policy.kind} cannot guard the plain function {qualified_name(fn)}: {reason}")


def refuse_awaitable(result: Any) -> None:
    """A plain function gave something to await: it was taken for synchronous, and its outcome would be a guess."""
    close = getattr(result, "close", None)
    if close is not None:
        close()
    raise TypeError("a guarded plain function returned an awaitable; guard an async def, or use Pipeline.call")
