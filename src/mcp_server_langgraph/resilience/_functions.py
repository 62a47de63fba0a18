"""What kind of function is being guarded, and what it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal

Kind = Literal["async", "stream", "sync"]


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Look through partials, methods and callable objects for what is behind them."""
    if any(inspect.isasyncgenfunction(face) for face in faces(fn)):
        return "stream"
    if any(inspect.iscoroutinefunction(face) for face in faces(fn)):
        return "async"
    return "sync"


def faces(fn: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """What may tell the kind: the function itself, or the ``__call__`` of an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    yield fn
    if not inspect.isroutine(fn):
        yield type(fn).__call__


def qualified_name(fn: Callable[..., Any]) -> str:
    """The function's qualified name; the type's for callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def is_kind_of_method(fn: object) -> bool:
    """Whether a class body's ``staticmethod`` or ``classmethod`` was put around the function before we were."""
    return isinstance(fn, (staticmethod, classmethod))


def inside_method(method: Any, change: Callable[[Any], Any]) -> Any:
    """The same kind of method, its function changed."""
    return type(method)(change(method.__func__))


def refuse_awaitable(result: Any) -> None:
    """A plain function gave something to await: it was taken for synchronous, and its outcome would be a guess."""
    close = getattr(result, "close", None)
    if close is not None:
        close()
    raise TypeError(
        "a guarded plain function returned an awaitable; guard an async def, or use Pipeline.call"
    )
