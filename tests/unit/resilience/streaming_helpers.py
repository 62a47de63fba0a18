"""What the tests of streaming have in common."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Bulkhead, Call, CircuitBreaker, Pipeline, Policy, Retry, Timeout


def everything(*policies: Policy) -> Pipeline:
    return Pipeline("s", *policies)


LAYERS = pytest.mark.parametrize(
    "pipeline",
    [
        lambda: everything(),
        lambda: everything(Timeout(100), Bulkhead(1), Retry(2), CircuitBreaker(), Timeout(50)),
        lambda: everything(Bulkhead(1), Through(), Retry(2), Through(), Timeout(50)),
    ],
    ids=["no policy", "standard", "general policies between"],
)


class Through(Policy):
    """A policy in the general form that changes nothing."""

    async def run(self, call: Call, proceed: Any) -> Any:
        return await proceed(call)

    async def stream(self, call: Call, proceed: Any) -> AsyncGenerator[Any, Any]:
        source = proceed(call)
        try:
            item = await anext(source)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as exc:
                    item = await source.athrow(exc)
                else:
                    item = await source.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await source.aclose()
