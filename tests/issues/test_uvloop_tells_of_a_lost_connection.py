"""On uvloop a lost connection may be told by a plain RuntimeError or AttributeError. Nobody took it for unavailability:
where Redis flapped, or OpenFGA was killed, a caller got "Error executing tool agent_chat" now and then. Found by the
p95 run, whose server runs on uvloop as real ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSAttribute

from mcp_server_langgraph.resilience import CircuitBreaker, Fallback, Pipeline, Rung, classify
from mcp_server_langgraph.resilience.outcome import Outcome

uvloop = pytest.importorskip(
    "uvloop", reason="pip install uvloop; it has no wheels for this platform otherwise"
)


async def write_to_a_lost_connection() -> None:
    """As redis-py does."""
    async with await server() as listening:
        _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.transport.abort()
        await writer.wait_closed()
        writer.writelines([b"PING"])


async def look_at_a_lost_connection() -> None:
    """As httpcore does when it has connected."""
    async with await server() as listening:
        stream: Any = await anyio.connect_tcp(*listening.sockets[0].getsockname())
        stream._transport.abort()
        await asyncio.sleep(0.01)
        stream.extra(TLSAttribute.ssl_object, None)


async def server() -> asyncio.Server:
    return await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)


LOST = pytest.mark.parametrize("lost", [write_to_a_lost_connection, look_at_a_lost_connection])


@LOST
def test_it_is_unavailability(lost: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises((AttributeError, RuntimeError)) as raised,
    ):
        runner.run(lost())
    verdict = classify(raised.value)
    assert (verdict.outcome, verdict.retryable, verdict.unavailable) == (Outcome.FAILURE, True, True)


@LOST
def test_a_fallback_answers_for_it(lost: Callable[[], Coroutine[Any, Any, None]]) -> None:
    pipeline = Pipeline(
        "redis", Fallback(Rung(lambda: "from memory", source="memory")), CircuitBreaker("redis")
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(pipeline.call(lost)) == "from memory"


def test_other_errors_of_these_kinds_may_be_bugs() -> None:
    assert not classify(RuntimeError("generator ignored GeneratorExit")).unavailable
    assert not classify(AttributeError("'NoneType' object has no attribute 'content'")).unavailable
