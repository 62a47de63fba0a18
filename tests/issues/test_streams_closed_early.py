"""A stream that ended with what its consumer threw into it kept that error in its own frame: a cycle each time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from mcp_server_langgraph.resilience import Bulkhead, Pipeline, Retry, Timeout


async def items() -> AsyncGenerator[int, None]:
    yield 1
    yield 2


async def broken() -> AsyncGenerator[int, None]:
    yield 1
    raise KeyError


async def read(pipeline: Pipeline, most: int) -> None:
    async with contextlib.aclosing(pipeline.stream(items)) as stream:
        async for item in stream:
            if item == most:
                return


async def read_what_breaks(pipeline: Pipeline) -> None:
    with contextlib.suppress(KeyError):
        async for _ in pipeline.stream(broken):
            pass


@pytest.mark.parametrize("kind", ["closed early", "to its end", "broken"])
async def test_it_leaves_no_cycle(kind: str) -> None:
    pipeline = Pipeline("svc", Timeout(30), Bulkhead(1), Retry(2), Timeout(1))
    begins: dict[str, Callable[[], Awaitable[None]]] = {
        "closed early": lambda: read(pipeline, 1),
        "to its end": lambda: read(pipeline, 9),
        "broken": lambda: read_what_breaks(pipeline),
    }
    begin = begins[kind]
    await begin()
    gc.collect()
    gc.disable()
    try:
        await begin()
        assert gc.collect() == 0
    finally:
        gc.enable()
