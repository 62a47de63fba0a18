"""What the tests of the fallback have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp_server_langgraph.resilience import Fallback, Pipeline, Policy, Value


def raising(exc: BaseException) -> Callable[..., Awaitable[Any]]:
    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise exc

    return fail


async def answer(exc: BaseException, *policies: Policy, rungs: tuple[Any, ...] = (Value("instead"),)) -> Any:
    return await Pipeline("s", Fallback(*rungs), *policies).call(raising(exc))
