"""The cooldown in a pipeline: what starts it, who is refused, who waits, and how they come back."""

from __future__ import annotations

import asyncio
import time as wall
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitOpen,
    ConfigurationError,
    Cooldown,
    CoolingDown,
    Event,
    Pipeline,
    Retry,
    Timeout,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.testing import settle


class StatusError(Exception):
    """An answer with a status, and perhaps with a Retry-After or a code."""

    def __init__(self, status: int, after: float | None = None, code: str | None = None) -> None:
        self.status_code = status
        self.headers = {} if after is None else {"retry-after": str(after)}
        self.code = code


def time() -> float:
    return asyncio.get_running_loop().time()


async def fine() -> float:
    return time()


async def refuse(status: int = 429, after: float | None = None, code: str | None = None) -> None:
    raise StatusError(status, after, code)


async def strike(pipeline: Pipeline, *args: Any) -> None:
    with pytest.raises(StatusError):
        await pipeline.call(refuse, *args)


def cooling(**options: Any) -> tuple[Cooldown, Pipeline]:
    cooldown = Cooldown(**{"jitter": 0.0, **options})
    return cooldown, Pipeline("svc", cooldown)


async def test_one_call_told_to_wait_keeps_all_others_away_until_then() -> None:
    cooldown, pipeline = cooling()
    await strike(pipeline, 429, 30)
    await asyncio.sleep(10)
    with pytest.raises(CoolingDown) as caught:
        await pipeline.call(fine)
    assert (caught.value.pipeline, caught.value.retry_after) == ("svc", pytest.approx(20))
    assert str(caught.value) == "cooldown of 'svc' leaves the dependency alone; retry after 20 s"
    await asyncio.sleep(20)
    await pipeline.call(fine)
    assert (cooldown.snapshot().started, cooldown.snapshot().rejected) == (1, 1)


async def test_it_is_extended_and_never_shortened() -> None:
    cooldown, pipeline = cooling()
    late = [asyncio.ensure_future(pipeline.call(slowly, seconds)) for seconds in (1, 40)]
    await settle()
    await strike(pipeline, 429, 30)
    await asyncio.gather(*late, return_exceptions=True)
    await asyncio.sleep(1)
    assert cooldown.snapshot().left == pytest.approx(39)
    assert cooldown.snapshot().started == 1


async def slowly(after: float) -> None:
    await asyncio.sleep(1)
    raise StatusError(429, after)


async def test_a_503_that_names_a_time_starts_one_and_one_that_does_not_is_the_breakers_matter() -> None:
    cooldown, pipeline = cooling()
    await strike(pipeline, 503)
    assert cooldown.snapshot().state == "idle"
    await strike(pipeline, 503, 5)
    assert cooldown.snapshot().state == "cooling"


async def test_where_nobody_says_how_long_the_time_doubles_until_a_call_is_served() -> None:
    cooldown, pipeline = cooling(first=2, longest=10)
    seen = []
    for _ in range(4):
        await strike(pipeline)
        seen.append(cooldown.snapshot().left)
        await asyncio.sleep(seen[-1])
    assert seen == pytest.approx([2, 4, 8, 10])
    await pipeline.call(fine)
    await strike(pipeline)
    assert cooldown.snapshot().left == pytest.approx(2)


async def test_calls_refused_together_count_once() -> None:
    cooldown, pipeline = cooling(first=2)
    await asyncio.gather(*(pipeline.call(refuse) for _ in range(20)), return_exceptions=True)
    assert cooldown.snapshot().left == pytest.approx(2)
    assert cooldown.machine.strikes == 1


@pytest.mark.parametrize("code", ["insufficient_quota", None])
async def test_an_exhausted_account_starts_none_as_no_wait_helps(code: str | None) -> None:
    cooldown, pipeline = cooling()
    await strike(pipeline, 429, None, code)
    assert cooldown.snapshot().state == ("idle" if code else "cooling")


async def test_our_own_rejections_start_none() -> None:
    async def rejected() -> None:
        raise CircuitOpen("inner", 30)

    cooldown, pipeline = cooling()
    with pytest.raises(CircuitOpen):
        await pipeline.call(rejected)
    assert cooldown.snapshot().state == "idle"


async def test_those_who_may_wait_do_and_a_longer_one_is_refused_at_once() -> None:
    _, pipeline = cooling(max_wait=20)
    await strike(pipeline, 429, 20)
    began = time()
    assert await pipeline.call(fine) - began == pytest.approx(20)
    await strike(pipeline, 429, 21)
    with pytest.raises(CoolingDown):
        await pipeline.call(fine)
    assert time() - began == pytest.approx(20)


async def test_a_deadline_that_ends_before_it_is_refused_at_once() -> None:
    cooldown = Cooldown(max_wait=60)
    pipeline = Pipeline("svc", Timeout(5), cooldown)
    await strike(pipeline, 429, 10)
    began = time()
    with pytest.raises(CoolingDown):
        await pipeline.call(fine)
    assert time() == began


async def test_a_wait_that_is_extended_beyond_its_patience_ends_then() -> None:
    cooldown, pipeline = cooling(max_wait=20)
    await strike(pipeline, 429, 20)
    waiting = asyncio.ensure_future(pipeline.call(fine))
    await asyncio.sleep(5)
    began = time()
    cooldown.start(100)
    with pytest.raises(CoolingDown):
        await waiting
    assert time() - began == pytest.approx(15)


async def test_those_who_waited_come_back_spread_over_a_share_of_the_time() -> None:
    draws = iter([0.0, 0.25, 1.0])
    _, pipeline = cooling(max_wait=60, jitter=0.5, chance=lambda: next(draws))
    await strike(pipeline, 429, 20)
    began = time()
    ends = await asyncio.gather(*(pipeline.call(fine) for _ in range(3)))
    assert [end - began for end in ends] == pytest.approx([20, 22.5, 30])


async def test_one_that_comes_while_they_return_draws_too_and_one_that_may_not_wait_goes_in() -> None:
    _, waiting = cooling(max_wait=60, jitter=0.5, chance=lambda: 0.5)
    _, hasty = cooling(jitter=0.5)
    for pipeline in (waiting, hasty):
        await strike(pipeline, 429, 20)
    await asyncio.sleep(21)
    began = time()
    assert await hasty.call(fine) == began
    assert await waiting.call(fine) - began == pytest.approx(4)


async def test_what_is_refused_is_told_to_come_back_spread() -> None:
    _, pipeline = cooling(jitter=0.5, chance=lambda: 0.5)
    await strike(pipeline, 429, 20)
    with pytest.raises(CoolingDown) as caught:
        await pipeline.call(fine)
    assert caught.value.retry_after == pytest.approx(25)


async def test_a_retry_does_not_wait_for_a_refusal() -> None:
    pipeline = Pipeline("svc", Retry(max_attempts=3, multiplier=1, jitter="none"), Cooldown(first=30))
    began = time()
    await strike(pipeline)
    assert time() == began


async def test_a_retry_comes_back_when_the_wait_is_one_that_it_was_told() -> None:
    pipeline = Pipeline("svc", Retry(max_attempts=2), Cooldown(jitter=0))
    began = time()
    answers = iter([StatusError(429, 7), None])

    async def once() -> float:
        error = next(answers)
        if error is not None:
            raise error
        return time()

    assert await pipeline.call(once) - began == pytest.approx(7.2, abs=0.2)


async def test_streams_are_kept_away_too() -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield 1

    _, pipeline = cooling()
    await strike(pipeline, 429, 30)
    with pytest.raises(CoolingDown):
        await anext(pipeline.stream(items))


def test_plain_functions_wait_in_their_thread() -> None:
    cooldown = Cooldown(max_wait=5, jitter=0)
    pipeline = Pipeline("svc", cooldown)
    cooldown.start(0.05)
    began = wall.monotonic()
    pipeline.call_sync(int)
    assert wall.monotonic() - began >= 0.0499


async def test_it_tells_of_its_start_and_counts() -> None:
    told: list[Event] = []
    stop = subscribe(told.append)
    _, pipeline = cooling(first=2)
    await strike(pipeline)
    with pytest.raises(CoolingDown):
        await pipeline.call(fine)
    stop()
    assert [(event.kind, event.pipeline) for event in told] == [("cooldown", "svc"), ("rejected", "svc")]
    assert told[0].details == {"seconds": 2, "asked": False}
    told_metrics = {each.name: dict(each.samples) for each in registry.metrics()}
    assert told_metrics["cooldown_seconds_left"] == {("svc",): pytest.approx(2)}
    assert told_metrics["cooldown_started_total"] == {("svc",): 1}
    assert told_metrics["cooldown_rejected_total"] == {("svc",): 1}


async def test_settings_change_and_a_cooldown_that_has_begun_stays() -> None:
    cooldown = Cooldown()
    pipeline = Pipeline("svc", cooldown)
    await strike(pipeline, 429, 30)
    registry.reload(
        {
            "SVC_COOLDOWN_MAX_WAIT": "60",
            "COOLDOWN_JITTER": "0",
            "COOLDOWN_FIRST": "3",
            "COOLDOWN_LONGEST": "9",
        }
    )
    assert cooldown.settings() == {"max_wait": 60, "first": 3, "longest": 9, "jitter": 0}
    began = time()
    assert await pipeline.call(fine) - began == pytest.approx(30)


@pytest.mark.parametrize("options", [{"max_wait": -1}, {"first": -1}, {"longest": -1}, {"jitter": 2}])
def test_arguments_that_cannot_be_right_are_refused_by_name(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"Cooldown: {name}={value} must be"):
        Cooldown(**options)  # type: ignore[arg-type]
