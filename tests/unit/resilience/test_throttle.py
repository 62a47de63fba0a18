"""The throttle in a pipeline: what counts as accepted, who is shed, and its numbers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Criticality,
    Pipeline,
    Retry,
    Throttle,
    Throttled,
    Timeout,
    criticality,
    registry,
)


class StatusError(Exception):
    def __init__(self, status: int, code: str | None = None) -> None:
        self.status_code = status
        self.code = code


async def answer(result: Any = None) -> Any:
    return result


async def fail(error: BaseException) -> None:
    raise error


async def hang() -> None:
    await asyncio.sleep(100)


async def many(times: int, call: Callable[[], Any]) -> list[Any]:
    """The calls' ends, one after the other."""
    return [(await asyncio.gather(call(), return_exceptions=True))[0] for _ in range(times)]


def counted(throttle: Throttle) -> tuple[int, int]:
    snapshot = throttle.snapshot()
    return snapshot.requests, snapshot.accepts


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StatusError(400), (1, 1)),
        (StatusError(404), (1, 1)),
        (StatusError(500), (1, 1)),
        (StatusError(429), (1, 0)),
        (StatusError(429, "insufficient_quota"), (1, 1)),
        (StatusError(503), (1, 0)),
        (StatusError(529), (1, 0)),
        (ConnectionError(), (1, 0)),
        (TimeoutError(), (1, 0)),
        (RuntimeError(), (1, 1)),
        (TypeError(), (0, 0)),
        (CircuitOpen("inner"), (0, 0)),
        (asyncio.CancelledError(), (0, 0)),
    ],
)
async def test_accepted_is_what_was_answered(error: BaseException, expected: tuple[int, int]) -> None:
    throttle = Throttle()
    with pytest.raises(type(error)):
        await Pipeline("svc", throttle).call(fail, error)
    assert counted(throttle) == expected


async def test_no_answer_in_time_is_none_accepted() -> None:
    throttle = Throttle()
    inner, outer = Pipeline("svc", throttle, Timeout(1)), Pipeline("svc", Timeout(1), throttle)
    for pipeline in (inner, outer):
        with pytest.raises(TimeoutError):
            await pipeline.call(hang)
    assert counted(throttle) == (2, 0)


async def test_a_response_that_is_judged_a_failure_counts_by_its_status() -> None:
    throttle = Throttle()
    pipeline = Pipeline("svc", throttle, is_failure=lambda result: True)
    await pipeline.call(answer, StatusError(503))
    await pipeline.call(answer, StatusError(500))
    await pipeline.call(answer, "no response at all")
    assert counted(throttle) == (3, 2)


async def test_the_end_of_a_retried_call_counts_and_not_its_attempts() -> None:
    throttle = Throttle()
    pipeline = Pipeline("svc", throttle, Retry(max_attempts=3, reraise=False))
    with pytest.raises(Exception, match="gave up"):
        await pipeline.call(fail, StatusError(503))
    assert counted(throttle) == (1, 0)


async def test_a_stream_counts_when_it_ends() -> None:
    async def items(error: Exception | None = None) -> AsyncGenerator[int, None]:
        yield 1
        if error is not None:
            raise error

    throttle = Throttle()
    pipeline = Pipeline("svc", throttle)
    assert [item async for item in pipeline.stream(items)] == [1]
    with pytest.raises(Exception, match="svc"):
        async for _ in pipeline.stream(items, ConnectionError()):
            pass
    assert counted(throttle) == (2, 1)


async def test_it_sheds_what_the_formula_says_and_the_shed_count_as_requests() -> None:
    throttle = Throttle(chance=lambda: 0.6, max_rejection=0.9)
    pipeline = Pipeline("svc", throttle)
    ends = await many(30, lambda: pipeline.call(fail, StatusError(503)))
    assert [type(end) for end in ends] == [StatusError] * 10 + [Throttled] * 20
    assert str(ends[-1]) == "throttle of 'svc' shed the call"
    assert ends[-1].retry_after is None
    assert counted(throttle) == (30, 0)


async def test_a_dependency_that_accepts_half_is_left_as_it_is() -> None:
    throttle = Throttle(chance=lambda: 0.01)
    pipeline = Pipeline("svc", throttle)
    for _ in range(50):
        await many(1, lambda: pipeline.call(answer))
        await many(1, lambda: pipeline.call(fail, StatusError(503)))
    assert counted(throttle) == (100, 50)


async def test_the_sheddable_go_before_the_critical() -> None:
    """Of twelve calls a second, three of each level, the dependency accepts the first four."""
    throttle = Throttle(chance=random.Random(1).random)
    pipeline = Pipeline("svc", throttle)
    shed = dict.fromkeys(Criticality, 0)
    order, shuffle = list(Criticality) * 3, random.Random(2).shuffle
    for second in range(200):
        shuffle(order)
        accepted = 0
        for level in order:
            with criticality(level):
                call = pipeline.call(answer) if accepted < 4 else pipeline.call(fail, StatusError(503))
                (end,) = await asyncio.gather(call, return_exceptions=True)
            accepted += end is None
            if second >= 100:
                shed[level] += isinstance(end, Throttled)
        await asyncio.sleep(1)
    assert shed[Criticality.SHEDDABLE] == pytest.approx(270, abs=15)
    assert shed[Criticality.SHEDDABLE_PLUS] == pytest.approx(130, abs=25)
    assert shed[Criticality.CRITICAL] == shed[Criticality.CRITICAL_PLUS] == 0


async def test_what_was_long_ago_is_forgotten() -> None:
    throttle = Throttle(chance=lambda: 0.0)
    pipeline = Pipeline("svc", throttle)
    await many(20, lambda: pipeline.call(fail, StatusError(503)))
    with pytest.raises(Throttled):
        await pipeline.call(answer)
    await asyncio.sleep(126)
    await pipeline.call(answer)


async def test_an_open_circuit_inside_is_none_of_its_matter() -> None:
    throttle, breaker = Throttle(chance=lambda: 0.0), CircuitBreaker("down")
    pipeline = Pipeline("svc", throttle, breaker)
    breaker.force_open()
    ends = await many(50, lambda: pipeline.call(answer))
    assert {type(end) for end in ends} == {CircuitOpen}


async def test_numbers_are_told() -> None:
    throttle = Throttle(chance=lambda: 0.0, min_requests=1)
    pipeline = Pipeline("svc", throttle)
    await many(3, lambda: pipeline.call(fail, StatusError(503)))
    told = {each.name: dict(each.samples) for each in registry.metrics()}
    assert told["throttle_share"] == {("svc",): pytest.approx(3 / 4)}
    assert told["throttle_overloads_total"] == {("svc",): 1}
    assert told["throttle_shed_total"]["svc", "critical"] == 2


async def test_settings_change_and_what_was_counted_stays() -> None:
    throttle = Throttle()
    pipeline = Pipeline("svc", throttle)
    await many(5, lambda: pipeline.call(fail, StatusError(503)))
    registry.reload(
        {
            "SVC_THROTTLE_K": "1.5",
            "THROTTLE_MAX_REJECTION": "0.5",
            "THROTTLE_WINDOW": "60",
            "THROTTLE_MIN_REQUESTS": "3",
        }
    )
    assert throttle.settings() == {"k": 1.5, "max_rejection": 0.5, "window": 60, "min_requests": 3}
    assert throttle.snapshot().share == 0.5


@pytest.mark.parametrize(
    "options",
    [{"k": 0.5}, {"max_rejection": 1.5}, {"window": 0}, {"min_requests": -1}, {"min_requests": 1.5}],
)
def test_arguments_that_cannot_be_right_are_refused_by_name(options: dict[str, float]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=f"Throttle: {name}={value} must be"):
        Throttle(**options)  # type: ignore[arg-type]
