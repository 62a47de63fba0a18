"""On uvloop a write to a lost connection is a plain RuntimeError, which nobody took for unavailability: where Redis
flapped, callers got "Error executing tool agent_chat" (found by `python -m benchmarks.faults`; the tests' loop is
asyncio's own).
"""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, Fallback, Pipeline, Rung, classify
from mcp_server_langgraph.resilience.outcome import Outcome

uvloop = pytest.importorskip(
    "uvloop", reason="pip install uvloop; it has no wheels for this platform otherwise"
)


async def write_to_a_lost_connection() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.transport.abort()
        await writer.wait_closed()
        writer.writelines([b"PING"])


def test_it_is_unavailability() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError) as raised:
        runner.run(write_to_a_lost_connection())
    verdict = classify(raised.value)
    assert (verdict.outcome, verdict.retryable, verdict.unavailable) == (Outcome.FAILURE, True, True)


def test_a_fallback_answers_for_it() -> None:
    pipeline = Pipeline(
        "redis", Fallback(Rung(lambda: "from memory", source="memory")), CircuitBreaker("redis")
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(pipeline.call(write_to_a_lost_connection)) == "from memory"


def test_other_runtime_errors_may_be_bugs() -> None:
    assert not classify(RuntimeError("generator ignored GeneratorExit")).unavailable
