"""The timeout's settings: what is refused, what is shown, and what changes while calls are under way."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import (
    ConfigurationError,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    registry,
    with_timeout,
)
from mcp_server_langgraph.resilience.testing import advance
from tests.support.clock import now
from tests.unit.resilience.timeout_helpers import BOTH


async def calls_across_a_reload(kind: str, before: float, after: float) -> list[tuple[str, float]]:
    variable = {"total": "TIMEOUT", "attempt": "ATTEMPT_TIMEOUT"}[kind]
    registry.reload({f"REDIS_{variable}": str(before)})
    policies = (Timeout(),) if kind == "total" else (Retry(1), Timeout())
    pipeline = Pipeline("redis", *policies)
    ends = []

    async def one(name: str) -> None:
        with pytest.raises(TimedOut) as caught:
            await pipeline.call(asyncio.sleep, 1000)
        assert caught.value.seconds == (before if name == "old" else after)
        ends.append((name, now()))

    old = asyncio.create_task(one("old"))
    await advance(1)
    registry.reload({f"REDIS_{variable}": str(after)})
    await asyncio.gather(old, one("new"))
    return ends


@BOTH
async def test_changed_seconds_hold_for_calls_that_begin_from_now_on(kind: str) -> None:
    assert await calls_across_a_reload(kind, before=10, after=2) == [("new", 3), ("old", 10)]


@BOTH
async def test_longer_seconds_do_too(kind: str) -> None:
    assert await calls_across_a_reload(kind, before=2, after=10) == [("old", 2), ("new", 11)]


async def test_a_change_in_flight_does_not_mix_up_timeouts_around_each_other() -> None:
    registry.reload({"LLM_ATTEMPT_TIMEOUT": "1"})
    around, changing = Pipeline("x", Retry(1), Timeout(2)), Pipeline("llm", Retry(1), Timeout())

    async def reload_meanwhile() -> None:
        registry.reload({"LLM_ATTEMPT_TIMEOUT": "2"})
        await asyncio.create_task(changing.call(asyncio.sleep, 0))

    async def work() -> None:
        await changing.call(reload_meanwhile)
        await asyncio.sleep(10)

    with pytest.raises(TimedOut) as caught:
        await around.call(work)
    assert (caught.value.pipeline, now()) == ("x", 2)
    await asyncio.sleep(5)


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"seconds": -1}, {"first_item": 0}, {"idle": float("nan")}]
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))}=.* must be above 0 seconds"):
        Timeout(**options)


def test_its_settings_are_shown() -> None:
    assert repr(Timeout(3)) == "Timeout(seconds=3)"
    assert repr(Timeout(3, first_item=1, idle=0.5)) == "Timeout(seconds=3, first_item=1, idle=0.5)"


async def test_the_decorator_takes_the_policys_options() -> None:
    @with_timeout(seconds=2)
    async def slow() -> None:
        await asyncio.sleep(5)

    with pytest.raises(TimedOut) as caught:
        await slow()
    assert caught.value.seconds == 2
