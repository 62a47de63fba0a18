"""What `Pipeline.standard` builds, by preset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    Budget,
    Cache,
    Chaos,
    CircuitBreaker,
    ConfigurationError,
    Fallback,
    Hedge,
    Outcome,
    Outlier,
    Pipeline,
    RateLimit,
    Retry,
    StreamInterrupted,
    Throttle,
    TimedOut,
    Timeout,
    Value,
    Verdict,
    budget,
    registry,
)
from mcp_server_langgraph.resilience.presets import PRESETS
from tests.support.dependency import HTTPError


def order(pipeline: Pipeline) -> str:
    return " > ".join(policy.kind for policy in pipeline.policies)


def retry_of(pipeline: Pipeline) -> Retry:
    return next(policy for policy in pipeline.policies if isinstance(policy, Retry))


class Counted:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.keys: list[str | None] = []

    async def __call__(self, *, key: str | None = None) -> None:
        self.keys.append(key)
        raise self.error


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_in_the_standard_order_and_leaves_no_doubts(preset: str) -> None:
    pipeline = Pipeline.standard("x", preset)
    cooling = " > cooldown" if preset == "llm" else ""
    assert order(pipeline) == f"timeout > bulkhead > retry{cooling} > circuit_breaker"
    assert "doubts" not in pipeline.describe()


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"preset 'fast' is not known.* read, idempotent_write"):
        Pipeline.standard("x", "fast")


@pytest.mark.parametrize(
    ("preset", "attempts"),
    [("read", 3), ("idempotent_write", 3), ("non_idempotent_write", 1), ("llm", 3), ("stream", 3)],
)
async def test_a_preset_says_what_may_be_repeated(preset: str, attempts: int) -> None:
    pipeline = Pipeline.standard("x", preset, retry=None)
    down = Counted(ConnectionError())
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert len(down.keys) == attempts == pipeline.describe()["requests"]


async def test_an_idempotent_write_carries_one_key_on_all_attempts() -> None:
    down = Counted(ConnectionError())
    with pytest.raises(ConnectionError):
        await Pipeline.standard("x", "idempotent_write", idempotency_key="key").call(down)
    assert len(down.keys) == 3
    assert len(set(down.keys)) == 1
    assert down.keys[0] is not None


async def test_a_model_that_asked_to_be_left_alone_is_left_alone_by_all_calls() -> None:
    pipeline = Pipeline.standard("llm.x", "llm")
    busy = Counted(HTTPError(429, retry_after="90"))
    for _ in range(5):
        await asyncio.gather(pipeline.call(busy), return_exceptions=True)
    assert len(busy.keys) == 1


async def test_a_stream_that_stalls_is_cut_long_before_its_total() -> None:
    async def stalls() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(999)

    pipeline = Pipeline.standard("llm.x", "llm")
    items = pipeline.stream(stalls)
    assert await anext(items) == 1
    with pytest.raises(StreamInterrupted) as caught:
        await anext(items)
    cause = caught.value.__cause__
    assert isinstance(cause, TimedOut)
    assert (cause.clock, cause.seconds) == ("idle", PRESETS["llm"].idle)


def test_all_pipelines_of_a_service_share_one_budget() -> None:
    one, other = Pipeline.standard("x"), Pipeline.standard("x", "llm")
    assert retry_of(one).budget is retry_of(other).budget is budget.shared("x")
    assert retry_of(Pipeline.standard("y")).budget is not budget.shared("x")


def test_everything_has_its_place() -> None:
    pipeline = Pipeline.standard(
        "x",
        fallback=Fallback(Value(1)),
        cache=Cache(),
        admission=AdaptiveLimit(),
        throttle=Throttle(),
        hedge=Hedge(),
        attempt=Timeout(1),
    )
    assert order(pipeline) == (
        "fallback > timeout > cache > adaptive_limit > throttle > retry > hedge > circuit_breaker > timeout"
    )


def test_what_is_given_replaces_the_standard() -> None:
    breaker, retry, total = CircuitBreaker("mine"), Retry(2), Timeout(7)
    pipeline = Pipeline.standard("x", breaker=breaker, retry=retry, total=total)
    assert (total, retry, breaker) == (pipeline.policies[0], *pipeline.policies[2:4])


@pytest.mark.parametrize(("preset", "first_item", "idle"), [("llm", 45, 20), ("stream", 10, 20)])
async def test_a_stream_has_clocks_for_its_first_piece_and_between_two(
    preset: str, first_item: float, idle: float
) -> None:
    async def late(first: float, second: float) -> AsyncGenerator[int, None]:
        await asyncio.sleep(first)
        yield 1
        await asyncio.sleep(second)
        yield 2

    async def end(first: float, second: float) -> tuple[str, float]:
        began = asyncio.get_running_loop().time()
        pipeline = Pipeline.standard("llm.x", preset)
        with pytest.raises((TimedOut, StreamInterrupted)) as caught:
            _ = [item async for item in pipeline.stream(late, first, second)]
        cut = caught.value if isinstance(caught.value, TimedOut) else caught.value.__cause__
        assert isinstance(cut, TimedOut)
        return cut.clock, asyncio.get_running_loop().time() - began

    assert await end(first_item + 1, 0) == ("first item", first_item)
    assert await end(1, idle + 1) == ("idle", 1 + idle)


def test_the_settings_of_the_service_bring_an_attempt_timeout() -> None:
    registry.reload({"X_ATTEMPT_TIMEOUT": "2"})
    assert order(Pipeline.standard("x")) == "timeout > bulkhead > retry > circuit_breaker > timeout"
    assert Pipeline.standard("x").describe()["policies"][-1]["seconds"] == 2
    assert Pipeline.standard("x", attempt=Timeout(5)).policies[-1].settings() == {"seconds": 2}


def test_what_stands_before_the_breaker_and_chaos_have_their_places() -> None:
    pipeline = Pipeline.standard(
        "x", "llm", quota=[RateLimit(5), Outlier(["a", "b"])], chaos=Chaos(latency=1)
    )
    assert order(pipeline) == "timeout > bulkhead > retry > rate_limit > outlier > circuit_breaker > chaos"
    assert "cooldown" not in order(Pipeline.standard("x", "llm", quota=[]))


async def test_classifier_judge_operation_and_budget_are_those_given() -> None:
    mine = Budget.unlimited()
    asked: list[BaseException] = []

    def classifier(exc: BaseException) -> Verdict:
        asked.append(exc)
        return Verdict(Outcome.NEUTRAL)

    pipeline = Pipeline.standard(
        "x", operation="find", budget=mine, classifier=classifier, is_failure=lambda result: result is None
    )
    assert (pipeline.site.operation, retry_of(pipeline).budget) == ("find", mine)
    error = ConnectionError()
    down = Counted(error)
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert (len(down.keys), set(asked)) == (1, {error})  # neutral, so not retried

    calls = []

    async def empty() -> None:
        calls.append(1)

    await pipeline.call(empty)
    assert len(calls) == 3
