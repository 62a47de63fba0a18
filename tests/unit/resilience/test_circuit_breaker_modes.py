"""The operator's hand on the breaker: each manual mode, and results across mode changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, CircuitOpen, Event, Pipeline
from mcp_server_langgraph.resilience.testing import settle
from tests.support.breaker_calls import call, gauge, transitions

MODES: dict[str, Callable[[CircuitBreaker], None]] = {
    "forced_open": CircuitBreaker.force_open,
    "forced_closed": CircuitBreaker.force_close,
    "disabled": CircuitBreaker.disable,
    "metrics_only": CircuitBreaker.metrics_only,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opened", [False, True])
async def test_a_manual_mode_is_visible_and_reversible(mode: str, opened: bool, events: list[Event]) -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    if opened:
        await call(pipeline, ConnectionError())
    automatic = breaker.state
    events.clear()
    MODES[mode](breaker)
    assert (breaker.state, breaker.snapshot().state, gauge()) == (mode, mode, {mode})
    assert breaker.snapshot().automatic == automatic
    assert isinstance(await call(pipeline), CircuitOpen) == (mode == "forced_open")
    breaker.reset()
    assert (breaker.state, gauge()) == ("closed", {"closed"})
    assert await call(pipeline) is None
    changes = [
        (event.details["before"], event.details["after"]) for event in events if event.kind == "state_change"
    ]
    assert changes == [(automatic, mode), (mode, "closed")]
    await call(pipeline, ConnectionError())
    assert breaker.state == "open", "the machine works again"


async def test_forced_open_refuses_for_ever_and_knows_no_time_to_come_back() -> None:
    breaker = CircuitBreaker("svc", timeout=10)
    pipeline = Pipeline("svc", breaker)
    breaker.force_open()
    await asyncio.sleep(1000)
    refusal = await call(pipeline)
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, breaker.snapshot().rejected) == (None, 1)


async def test_forced_closed_counts_and_does_not_trip() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    breaker.force_close()
    await asyncio.sleep(10)
    for error in (ConnectionError(), ConnectionError(), None, TypeError()):
        assert await call(pipeline, error) is error
    shown = breaker.snapshot()
    assert (shown.state, shown.failures, shown.successes, shown.neutral) == (
        *("forced_closed", {"ConnectionError": 3}, 1, 1),
    )
    assert (shown.automatic, shown.probes) == ("open", 0)


async def test_forced_closed_leaves_the_machine_alone() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    breaker.force_close()
    await call(pipeline, ConnectionError())
    assert breaker.snapshot().automatic == "closed"
    breaker.reset()
    await call(pipeline, ConnectionError())
    breaker.force_close()
    await asyncio.sleep(10)
    await call(pipeline)
    assert breaker.snapshot().automatic == "open"


async def test_disabled_counts_nothing() -> None:
    breaker = CircuitBreaker("svc", fail_max=1)
    pipeline = Pipeline("svc", breaker)
    breaker.disable()
    for error in (ConnectionError(), ConnectionError(), None, TypeError()):
        assert await call(pipeline, error) is error
    shown = breaker.snapshot()
    assert (shown.automatic, shown.failures, shown.successes, shown.neutral) == ("closed", {}, 0, 0)


async def test_metrics_only_shows_what_the_machine_would_do() -> None:
    breaker = CircuitBreaker("svc", fail_max=2, timeout=10)
    pipeline = Pipeline("svc", breaker)
    breaker.metrics_only()
    for error in (ConnectionError(), ConnectionError(), None, ConnectionError()):
        assert await call(pipeline, error) is error
    shown = breaker.snapshot()
    assert (shown.state, shown.automatic, shown.would_reject, shown.rejected) == (
        "metrics_only",
        "open",
        2,
        0,
    )
    await asyncio.sleep(10)
    assert await call(pipeline) is None
    assert breaker.snapshot().automatic == "closed"


async def test_resetting_an_open_breaker_is_told(events: list[Event]) -> None:
    breaker = CircuitBreaker("svc", fail_max=1)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    breaker.reset()
    assert events[-1].details == {"before": "open", "after": "closed"}
    assert transitions() == {"open": 1, "closed": 1}


async def test_resetting_a_closed_breaker_is_no_event_but_a_new_count(events: list[Event]) -> None:
    breaker = CircuitBreaker("svc", fail_max=2)
    pipeline = Pipeline("svc", breaker)
    await call(pipeline, ConnectionError())
    breaker.reset()
    await call(pipeline, ConnectionError())
    assert (breaker.state, events) == ("closed", [])


@pytest.mark.parametrize("succeeds", [True, False])
@pytest.mark.parametrize("through", MODES)
@pytest.mark.parametrize("half_open", [True, False])
async def test_a_call_begun_before_a_mode_change_has_no_say_after_it(
    succeeds: bool, through: str, half_open: bool
) -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    if half_open:
        await call(pipeline, ConnectionError())
        await asyncio.sleep(10)
    gate = asyncio.get_running_loop().create_future()

    async def last() -> None:
        await gate

    early = asyncio.ensure_future(pipeline.call(last))
    await settle()
    MODES[through](breaker)
    before = breaker.snapshot()
    assert before.probes == 0
    if succeeds:
        gate.set_result(None)
    else:
        gate.set_exception(ConnectionError())
    await asyncio.wait([early])
    assert (early.exception() is None) == succeeds
    after = breaker.snapshot()
    assert (after.automatic, after.consecutive_failures) == (before.automatic, before.consecutive_failures)
    assert after.automatic == ("half_open" if half_open else "closed")


async def test_a_call_begun_in_a_manual_mode_has_no_say_when_it_is_over() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=10)
    pipeline = Pipeline("svc", breaker)
    gate = asyncio.get_running_loop().create_future()

    async def last() -> None:
        await gate

    breaker.force_close()
    late = asyncio.ensure_future(pipeline.call(last))
    await settle()
    breaker.reset()
    gate.set_exception(ConnectionError())
    await asyncio.wait([late])
    assert (breaker.state, late.exception() is None) == ("closed", False)
