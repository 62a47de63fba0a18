"""What an adaptive limit learns from how calls end, and what moves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

import pytest

from mcp_server_langgraph.resilience import AdaptiveLimit, LimitReached, Pipeline, TimedOut, Timeout, timeout
from mcp_server_langgraph.resilience.adaptive import Observed
from tests.unit.resilience.adaptive_helpers import Fixed, numbers


class Answer(Exception):
    """An answer of an HTTP service."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


async def slow(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


async def raising(exc: BaseException) -> None:
    await asyncio.sleep(0.2)
    raise exc


async def told(pipeline: Pipeline, make: Callable[[], BaseException], times: int = 12) -> list[Observed]:
    """What the algorithm hears of calls that raise, followed by as many as fill a window."""
    for _ in range(times):
        exc = make()
        with pytest.raises(type(exc)):
            await pipeline.call(raising, exc)
    for _ in range(12):
        await pipeline.call(slow, 0.2)
    fixed = pipeline.policies[-1].limiter.algorithm  # type: ignore[attr-defined]
    assert isinstance(fixed, Fixed)
    return fixed.told


async def test_the_algorithm_is_told_after_a_second_and_ten_calls() -> None:
    fixed = Fixed(5)
    pipeline = Pipeline("svc", AdaptiveLimit(fixed))
    await asyncio.gather(*(pipeline.call(slow, 0.1) for _ in range(3)))
    for _ in range(6):
        await pipeline.call(slow, 0.3)
    assert fixed.told == []
    await pipeline.call(slow, 0.1)
    (observed,) = fixed.told
    assert observed.round_trip == pytest.approx((3 * 0.1 + 6 * 0.3 + 0.1) / 10)
    assert (observed.in_flight, observed.dropped) == (3, False)
    assert 0 <= observed.chance < 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answer(503),
        lambda: Answer(529),
        lambda: Answer(504),
        lambda: Answer(408),
        lambda: TimeoutError(),
        lambda: type("ReadTimeout", (Exception,), {})(),
    ],
    ids=["503", "529", "504", "408", "TimeoutError", "a client's timeout"],
)
async def test_time_outs_and_overload_are_drops(make: Callable[[], BaseException]) -> None:
    observed, *_ = await told(Pipeline("svc", AdaptiveLimit(Fixed(5))), make)
    assert (observed.dropped, observed.round_trip) == (True, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answer(404),
        lambda: Answer(429),
        lambda: Answer(500),
        lambda: ConnectionError(),
        lambda: KeyError(),
    ],
    ids=["404", "429", "500", "ConnectionError", "a bug"],
)
async def test_other_failures_and_neutral_outcomes_are_no_samples(make: Callable[[], BaseException]) -> None:
    observed, *_ = await told(Pipeline("svc", AdaptiveLimit(Fixed(5))), make)
    assert (observed.dropped, observed.round_trip) == (False, pytest.approx(0.2))


async def test_a_call_cut_by_the_pipelines_own_time_is_a_drop_and_one_cut_by_its_caller_is_not() -> None:
    own, callers = Fixed(50), Fixed(50)
    ours = Pipeline("svc", Timeout(0.3), AdaptiveLimit(own))
    theirs = Pipeline("svc", AdaptiveLimit(callers))
    for _ in range(12):
        with pytest.raises(TimedOut):
            await ours.call(slow, 9)
        with pytest.raises(TimedOut):
            async with timeout(0.3):
                await theirs.call(slow, 9)
    assert [observed.dropped for observed in own.told] == [True]
    assert callers.told == []
    assert (ours.snapshot()["adaptive_limit"].active, theirs.snapshot()["adaptive_limit"].active) == (0, 0)


async def test_a_result_that_says_overloaded_is_a_drop() -> None:
    fixed = Fixed(5)
    pipeline = Pipeline(
        "svc", AdaptiveLimit(fixed), is_failure=lambda answer: getattr(answer, "status_code", 200) >= 500
    )

    async def overloaded() -> Answer:
        return await slow(0.2) and Answer(503)  # type: ignore[return-value]

    for _ in range(12):
        await pipeline.call(overloaded)
    assert [observed.dropped for observed in fixed.told] == [True]


async def test_a_cancelled_call_gives_its_place_back_and_says_nothing() -> None:
    fixed = Fixed(1)
    policy = AdaptiveLimit(fixed)
    pipeline = Pipeline("svc", policy)
    for _ in range(20):
        task = asyncio.ensure_future(pipeline.call(slow, 9))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
    assert (numbers(policy).active, fixed.told) == (0, [])


async def test_the_limit_follows_the_algorithm() -> None:
    fixed = Fixed(1)
    policy = AdaptiveLimit(fixed, max_queue=0)
    pipeline = Pipeline("svc", policy)
    fixed.update = lambda observed: setattr(fixed, "limit", 2.9)  # type: ignore[method-assign]
    for _ in range(12):
        await pipeline.call(slow, 0.2)
    assert numbers(policy).limit == 2
    assert policy.limiter.line.limit == 2
    results = await asyncio.gather(*(pipeline.call(slow, 1.0) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [float, float, LimitReached]


async def test_an_algorithm_that_raises_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    fixed = Fixed(3)
    policy = AdaptiveLimit(fixed)
    fixed.update = lambda observed: setattr(fixed, "limit", 1 / 0)  # type: ignore[method-assign]
    pipeline = Pipeline("svc", policy)
    with caplog.at_level(logging.ERROR):
        for _ in range(12):
            assert await pipeline.call(slow, 0.2) == 0.2
    assert "the limit stays 3" in caplog.text
    assert (numbers(policy).limit, numbers(policy).active) == (3, 0)


async def test_the_line_is_stretched_to_the_round_trips_of_slow_dependencies() -> None:
    policy = AdaptiveLimit(Fixed(20))
    pipeline = Pipeline("svc", policy)
    for _ in range(2):
        await asyncio.gather(*(pipeline.call(slow, 8) for _ in range(10)))
    assert policy.limiter.codels[2].interval == pytest.approx(8)
    assert policy.limiter.codels[2].target == pytest.approx(0.4)
    assert pipeline.describe()["seconds"] is None
    assert Pipeline("svc", policy, Timeout(1)).describe()["seconds"] == pytest.approx(9)


async def test_a_stream_holds_its_place_to_its_end() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=0)
    pipeline = Pipeline("svc", policy)

    async def tokens() -> AsyncGenerator[int, None]:
        for token in range(3):
            await asyncio.sleep(0.1)
            yield token

    stream = pipeline.stream(tokens)
    assert await anext(stream) == 0
    with pytest.raises(LimitReached):
        await pipeline.call(slow, 0)
    assert [token async for token in stream] == [1, 2]
    assert numbers(policy).active == 0
    stream = pipeline.stream(tokens)
    await anext(stream)
    await stream.aclose()
    assert numbers(policy).active == 0


async def test_a_call_that_is_abandoned_gives_its_place_back_when_it_is_collected() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=0)
    call = Pipeline("svc", policy).call(slow, 1)
    call.send(None)  # type: ignore[attr-defined]
    assert numbers(policy).active == 1
    call.close()  # type: ignore[attr-defined]
    assert numbers(policy).active == 0
