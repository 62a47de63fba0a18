"""Shedding: what is measured, who is refused, and that the probe leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    ConfigurationError,
    Criticality,
    Event,
    Overloaded,
    Pipeline,
    Shed,
    criticality,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.policy import Policy
from mcp_server_langgraph.resilience.testing import DeadlockError, VirtualClockLoop, run


async def nothing() -> None: ...


async def blocked(seconds: float) -> None:
    """Something keeps the loop busy."""
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    loop._set_clock(loop.time() + seconds)


async def passed(pipeline: Pipeline, level: Criticality, calls: int = 100) -> int:
    """How many of so many calls of a level are let in."""
    count = 0
    with criticality(level):
        for _ in range(calls):
            try:
                await pipeline.call(nothing)
            except Overloaded:
                continue
            count += 1
    return count


async def late(pipeline: Pipeline, windows: int, lag: float) -> None:
    """So many windows in which the loop lags."""
    for _ in range(windows * 5):
        await passed(pipeline, Criticality.SHEDDABLE, 5)
        await passed(pipeline, Criticality.CRITICAL, 5)
        await asyncio.sleep(0.1)
        if lag:
            await blocked(0.1 + lag)
        else:
            await asyncio.sleep(0.1)


async def test_while_the_loop_lags_the_least_critical_are_refused_and_the_most_critical_last() -> None:
    shed = Shed()
    pipeline = Pipeline("svc", shed)
    await late(pipeline, 5, lag=0.3)
    assert shed.snapshot().lag > 0.05
    assert await passed(pipeline, Criticality.SHEDDABLE) == 0
    assert await passed(pipeline, Criticality.CRITICAL_PLUS) == 100
    assert 0 < await passed(pipeline, Criticality.CRITICAL) < 100
    snapshot = shed.snapshot()
    assert snapshot.shed["SHEDDABLE"] >= 100
    assert (snapshot.shed["CRITICAL_PLUS"], 2 < snapshot.threshold < 3) == (0, True)


async def test_when_the_loop_is_on_time_again_everybody_is_let_in_again() -> None:
    shed = Shed()
    pipeline = Pipeline("svc", shed)
    await late(pipeline, 5, lag=0.3)
    await late(pipeline, 20, lag=0)
    assert shed.snapshot().threshold == 0
    assert await passed(pipeline, Criticality.SHEDDABLE) == 100


async def test_the_beginning_and_the_end_of_shedding_are_told() -> None:
    told: list[Event] = []
    unsubscribe = subscribe(lambda event: told.append(event))
    pipeline = Pipeline("svc", Shed())
    await late(pipeline, 3, lag=0.3)
    await late(pipeline, 25, lag=0)
    unsubscribe()
    changes = [event.details["state"] for event in told if event.kind == "state_change"]
    assert changes == ["shedding", "open"]
    assert {event.details["policy"] for event in told} == {"shed"}


async def test_the_wait_before_the_door_counts_too() -> None:
    waited: list[float | None] = [0.1]
    shed = Shed(queue_delay=lambda: waited[0])
    pipeline = Pipeline("svc", shed)
    for _ in range(4):
        await passed(pipeline, Criticality.CRITICAL, 20)
        await asyncio.sleep(1.01)
    await passed(pipeline, Criticality.CRITICAL, 1)
    assert shed.snapshot().queue_delay == pytest.approx(0.1)
    assert shed.snapshot().threshold > 2
    waited[0] = None
    for _ in range(20):
        await passed(pipeline, Criticality.CRITICAL, 20)
        await asyncio.sleep(1.01)
    assert shed.snapshot().threshold == 0


async def test_who_is_refused_is_told_when_to_come_back_and_not_to_retry() -> None:
    shed = Shed(retry_after=2.5)
    shed.door.threshold = 3.0
    with pytest.raises(Overloaded) as caught:
        await Pipeline("svc", shed).call(nothing)
    assert str(caught.value) == "shed of 'svc' shed the call; retry after 2.5 s"
    assert caught.value.headers == {"Retry-After": "3", "x-should-retry": "false"}
    samples = {metric.name: metric.samples for metric in registry.metrics()}
    assert samples["shed_total"]["svc", "CRITICAL"] == 1
    assert samples["loop_lag_seconds"]["svc",] == 0


async def test_nothing_optional_begins_while_it_sheds() -> None:
    shed = Shed()
    pipeline = Pipeline("svc", shed)
    assert [full() for full in pipeline.site.saturation] == [False]
    shed.door.threshold = 0.5
    assert [full() for full in pipeline.site.saturation] == [True]


async def test_a_chance_block_of_the_loop_does_not_shed() -> None:
    shed = Shed()
    pipeline = Pipeline("svc", shed)
    for turn in range(30):
        await passed(pipeline, Criticality.SHEDDABLE, 2)
        await asyncio.sleep(0.1)
        if turn == 15:
            await blocked(0.3)
    assert shed.snapshot().threshold == 0


def test_the_probe_stops_when_nobody_calls_and_keeps_no_loop_running() -> None:
    shed = Shed()
    pipeline = Pipeline("svc", shed)

    async def then_nothing() -> None:
        await pipeline.call(nothing)
        (probe,) = shed._probes.values()
        assert probe.handle is not None
        await asyncio.sleep(2.2)
        assert probe.handle is None
        await pipeline.call(nothing)
        assert probe.handle is not None

    run(then_nothing(), strict=True)
    run(then_nothing(), strict=True)  # the closed loop is forgotten

    async def hang() -> None:
        await pipeline.call(nothing)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        run(hang())
    assert len(shed._probes) == 1


def test_plain_functions_are_shed_too() -> None:
    shed = Shed(queue_delay=lambda: 1.0)
    pipeline = Pipeline("svc", shed)
    assert pipeline.call_sync(len, "four") == 4
    shed.door.end = time.monotonic()
    shed.door.lets_in(Criticality.SHEDDABLE, 0.0)
    with criticality(Criticality.SHEDDABLE):
        refused = 0
        for _ in range(100):
            try:
                pipeline.call_sync(len, "")
            except Overloaded:
                refused += 1
    assert refused


async def test_a_stream_is_refused_at_its_beginning() -> None:
    shed = Shed()
    shed.door.threshold = 4.0

    async def tokens() -> Any:
        yield 1

    with pytest.raises(Overloaded):
        await anext(Pipeline("svc", shed).stream(tokens))


def test_settings_are_followed_and_reloaded() -> None:
    registry.reload({"SHED_MAX_LAG": "0.2", "SVC_SHED_MAX_QUEUE_DELAY": "0.5"})
    policy: Policy = Shed(max_queue_delay=0.1)
    pipeline = Pipeline("svc", policy)
    assert policy.settings() == {"max_lag": 0.2, "max_queue_delay": 0.5, "retry_after": 1.0}
    registry.reload({})
    assert policy.settings() == {"max_lag": 0.05, "max_queue_delay": 0.1, "retry_after": 1.0}
    assert (policy.name, pipeline.snapshot()["shed"].threshold) == ("svc", 0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_lag": 0}, "max_lag=0"),
        ({"max_queue_delay": float("nan")}, "max_queue_delay=nan"),
        ({"retry_after": float("inf")}, "retry_after=inf"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Shed(**options)
