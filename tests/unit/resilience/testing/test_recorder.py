"""A recorder hears what pipelines do in its block, and says what it heard where an assertion fails."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline, Retry
from mcp_server_langgraph.resilience.testing import Recorder, Scripted


async def recorded() -> Recorder:
    """One success before the block; in it a call that is retried, one that opens the breaker, and a probe."""
    service = Scripted("fine", ConnectionError(), "fine", ConnectionError(), ConnectionError())
    breaker = CircuitBreaker("search", fail_max=2, timeout=60)
    pipeline = Pipeline("search", Retry(max_attempts=2, jitter="none"), breaker)
    await pipeline.call(service)
    with Recorder() as seen:
        await pipeline.call(service)
        with pytest.raises(ConnectionError):
            await pipeline.call(service)
        await asyncio.sleep(60)
        await pipeline.call(service)
    await pipeline.call(service)
    return seen


async def test_it_hears_events_transitions_numbers_and_ends() -> None:
    seen = await recorded()
    seen.happened("retry")
    seen.happened("retry", "search", times=2, error="ConnectionError")
    seen.never("fallback")
    seen.never("retry", "other")
    seen.in_order("retry", "state_change", "state_change")
    seen.changed("search", "open", "half_open", "closed")
    seen.ended("search", success=2, failure=1)
    assert seen.number("retry_attempts_total", "search") == 5
    assert seen.number("retry_attempts_total", "search", "2") == 2
    assert seen.number("resilience_call_duration_seconds", "search") == 2
    assert seen.number("fallback_used_total") == 0


async def test_a_failed_assertion_tells_what_was_heard() -> None:
    seen = await recorded()
    for wrong in (
        lambda: seen.happened("fallback"),
        lambda: seen.happened("retry", times=3),
        lambda: seen.happened("retry", error="KeyError"),
        lambda: seen.never("retry", "search"),
        lambda: seen.in_order("state_change", "fallback"),
        lambda: seen.changed("search", "open"),
        lambda: seen.ended("search", success=3),
    ):
        with pytest.raises(AssertionError, match=r"heard:\n  retry of search attempt=1"):
            wrong()
    with Recorder() as quiet, pytest.raises(AssertionError, match="heard nothing"):
        quiet.happened("retry")


async def test_numbers_may_be_looked_at_while_it_records() -> None:
    service = Scripted()
    pipeline = Pipeline("search")
    with Recorder() as seen:
        await pipeline.call(service)
        seen.ended("search", success=1)
        await pipeline.call(service)
        seen.ended("search", success=2)


async def test_it_hears_nothing_after_its_block() -> None:
    pipeline = Pipeline("search", Retry(max_attempts=2, multiplier=0))
    with Recorder() as seen:
        pass
    await pipeline.call(Scripted(ConnectionError()))
    seen.never("retry")
    seen.ended("search")


def test_it_is_entered_once() -> None:
    recorder = Recorder()
    with recorder:
        pass
    with pytest.raises(RuntimeError, match="only once"), recorder:
        pass
