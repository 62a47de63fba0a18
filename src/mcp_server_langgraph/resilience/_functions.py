"""What kind of function is being guarded, the wrapper that looks like it, and what a stream is read from."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from .policy import Policy

if TYPE_CHECKING:
    from .pipeline import Pipeline

Kind = Literal["async", "stream", "sync"]

# Where a wrapper holds its pipeline.
GUARDED_BY: Final = "__resilience_pipeline__"


def kind_of(fn: Callable[..., Any]) -> Kind:
    """Look through partials, methods and callable objects for what is behind them."""
    if any(inspect.isasyncgenfunction(face) for face in _faces(fn)):
        return "stream"
    if any(inspect.iscoroutinefunction(face) for face in _faces(fn)):
        return "async"
    return "sync"


def _faces(fn: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
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


def wrap(fn: Callable[..., Any], pipeline: Pipeline) -> Callable[..., Any]:
    """``fn`` behind the pipeline, of the same kind and with the same face; static and class methods stay what they are.

    Raises TypeError for a class, a generator function, or a function that a policy cannot guard.
    """
    if is_kind_of_method(fn):
        return cast("Callable[..., Any]", inside_method(fn, lambda inner: wrap(inner, pipeline)))
    if inspect.isclass(fn) or not callable(fn):
        raise TypeError(f"cannot guard {fn!r}: a function is needed")
    if any(inspect.isgeneratorfunction(face) for face in _faces(fn)):
        raise TypeError(f"cannot guard the generator {qualified_name(fn)}: make it an async generator")
    kind = kind_of(fn)
    if kind == "stream":
        return _streaming_wrapper(fn, pipeline)
    if kind == "sync":
        refuse_sync(fn, pipeline)
    return _dress(pipeline.frame_for(fn, sync=kind == "sync"), fn, pipeline)


def is_kind_of_method(fn: object) -> bool:
    """Whether a class body's ``staticmethod`` or ``classmethod`` was put around the function before we were."""
    return isinstance(fn, (staticmethod, classmethod))


def inside_method(method: Any, change: Callable[[Any], Any]) -> Any:
    """The same kind of method, its function changed."""
    return type(method)(change(method.__func__))


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


def refuse_awaitable(result: Any) -> None:
    """A plain function gave something to await: it was taken for synchronous, and its outcome would be a guess."""
    close = getattr(result, "close", None)
    if close is not None:
        close()
    raise TypeError(
        "a guarded plain function returned an awaitable; guard an async def, or use Pipeline.call"
    )


# What a `Source` gives when there are no more items.
END: Final = object()


class Source:
    """Something that yields: an async generator, or any other async iterator. Gives `END` after its last item."""

    __slots__ = ("_items",)

    def __init__(self, items: Any = None) -> None:
        self._items: Any = items

    async def next(self, sent: Any = None) -> Any:
        """The next item, after what the consumer sent."""
        try:
            return await (self._items.__anext__() if sent is None else self._items.asend(sent))
        except StopAsyncIteration:
            return END

    async def throw(self, exc: BaseException) -> Any:
        """The next item, after what the consumer threw. Raises that where the source has no ear for it."""
        if not hasattr(self._items, "athrow"):
            raise exc
        try:
            return await self._items.athrow(exc)
        except StopAsyncIteration:
            return END

    async def close(self) -> None:
        """Have it end now, where it can be told to."""
        items, self._items = self._items, None
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()


async def relayed(opened: Callable[[], Awaitable[tuple[Source, Any]]]) -> AsyncGenerator[Any, Any]:
    """The items of a source that was opened up to its first one, with all that the consumer sends and throws."""
    source, item = await opened()
    try:
        while item is not END:
            try:
                sent = yield item
            except GeneratorExit:
                raise
            except BaseException as thrown:
                item = await source.throw(thrown)
            else:
                item = await source.next(sent)
    finally:
        await source.close()
