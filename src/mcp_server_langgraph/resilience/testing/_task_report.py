"""Tells in words where a suspended task waits."""

from __future__ import annotations

import asyncio
import gc
import inspect
import linecache
from collections.abc import Iterable, Iterator
from types import FrameType

__all__ = ["in_creation_order", "report"]


def report(tasks: Iterable[asyncio.Task[object]]) -> str:
    """One paragraph a task: its name, then each frame it is suspended in, outermost first."""
    return "\n".join(_paragraph(task) for task in in_creation_order(tasks))


def in_creation_order(tasks: Iterable[asyncio.Task[object]]) -> list[asyncio.Task[object]]:
    """Sorted, so that a report reads the same each time: asyncio keeps its tasks in an unordered set.

    Default names count up ("Task-9" comes before "Task-10"); names given by the user are sorted as words.
    """
    return sorted(tasks, key=lambda task: (len(task.get_name()), task.get_name()))


def _paragraph(task: asyncio.Task[object]) -> str:
    frames = [f"    {line}" for line in _frames(task.get_coro())]
    return "\n".join([f"  {task.get_name()}:", *(frames or ["    (not begun)"])])


def _frames(awaited: object) -> Iterator[str]:
    while awaited is not None:
        frame, inner = _suspended_in(awaited)
        if frame is not None:
            yield _line(frame)
        elif inner is None:
            yield f"waits for {_short(awaited)}"
        awaited = inner


def _suspended_in(awaited: object) -> tuple[FrameType | None, object]:
    if inspect.iscoroutine(awaited):
        return awaited.cr_frame, awaited.cr_await
    if inspect.isasyncgen(awaited):
        return awaited.ag_frame, awaited.ag_await
    if inspect.isgenerator(awaited):
        return awaited.gi_frame, awaited.gi_yieldfrom
    return None, None if asyncio.isfuture(awaited) else _behind(awaited)


def _behind(awaited: object) -> object:
    """What the iterators of ``await future`` and ``anext(generator)`` stand for.

    CPython gives no attribute for it; only the garbage collector knows.
    """
    referents: list[object] = gc.get_referents(awaited)
    return next((it for it in referents if inspect.isasyncgen(it) or inspect.isawaitable(it)), None)


def _line(frame: FrameType) -> str:
    code = frame.f_code
    source = linecache.getline(code.co_filename, frame.f_lineno).strip()
    place = f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
    return f"{place}: {source}" if source else place


def _short(awaited: object) -> str:
    if isinstance(awaited, asyncio.Task):
        return awaited.get_name()
    text = repr(awaited)
    return text if len(text) <= 200 else f"{text[:197]}..."
