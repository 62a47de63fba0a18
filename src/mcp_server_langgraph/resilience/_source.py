"""What a stream is read from, with all that its consumer sends and throws."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

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
