"""What a cache remembers, for how long, and when it may stand in for the dependency."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    Cache,
    CircuitBreaker,
    ConfigurationError,
    Degradation,
    Event,
    Pipeline,
    Settings,
    TimedOut,
    collect_degradations,
    registry,
    subscribe,
    timeout,
)


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers={})


class Source:
    """Counts what it is asked; gives a new answer each time, or the error it was told."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.error: BaseException | None = None

    async def get(self, key: Any = "key", **_: Any) -> str:
        return self.get_sync(key)

    def get_sync(self, key: Any = "key", **_: Any) -> str:
        self.asked.append(key)
        if self.error is not None:
            raise self.error
        return f"{key} {len(self.asked)}"


def counts(name: str = "s") -> dict[str, float]:
    numbers: dict[str, Any] = {}
    for metric in registry.metrics():
        for labels, value in metric.samples.items():
            if metric.name == "cache_hits_total" and labels[0] == name:
                numbers[labels[1]] = value
            if metric.name == "cache_misses_total" and labels[0] == name:
                numbers["misses"] = value
    return numbers


# Fresh


async def test_an_answer_is_given_again_until_it_is_older_than_its_ttl() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=10))
    assert await pipeline.call(source.get) == "key 1"
    await asyncio.sleep(10)
    assert await pipeline.call(source.get) == "key 1"
    await asyncio.sleep(0.1)
    assert await pipeline.call(source.get) == "key 2"
    assert counts() == {"fresh": 1, "stale": 0, "joined": 0, "misses": 2}


async def test_without_a_ttl_every_call_asks() -> None:
    source, pipeline = Source(), Pipeline("s", Cache())
    assert [await pipeline.call(source.get) for _ in range(2)] == ["key 1", "key 2"]


async def test_another_question_has_another_answer() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=10))
    other = Source()
    other.asked = ["before"]
    answers = [
        await pipeline.call(source.get, "a"),
        await pipeline.call(source.get, "b"),
        await pipeline.call(source.get, "a", lang="de"),
        await pipeline.call(other.get, "a"),
        await pipeline.call(source.get, "a"),
    ]
    assert answers == ["a 1", "b 2", "a 3", "a 2", "a 1"]


async def test_a_key_function_says_what_the_same_question_is() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=10, key=lambda key, **_: key.lower()))
    assert await pipeline.call(source.get, "KEY") == await pipeline.call(source.get, "key", trace="x")
    assert source.asked == ["KEY"]


async def test_a_question_that_cannot_be_hashed_goes_through(caplog: pytest.LogCaptureFixture) -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=10))
    with caplog.at_level(logging.WARNING):
        assert [await pipeline.call(source.get, ["list"]) for _ in range(2)] == ["['list'] 1", "['list'] 2"]
        assert pipeline.call_sync(source.get_sync, ["list"]) == "['list'] 3"
    assert caplog.text.count("Cache cannot remember") == 1
    assert counts()["misses"] == 0


async def test_the_least_recently_used_answer_goes_first() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=10, max_size=2))
    for key in ("a", "b", "a", "c", "a", "b"):
        await pipeline.call(source.get, key)
    assert source.asked == ["a", "b", "c", "b"]


async def test_errors_and_results_judged_bad_are_not_remembered() -> None:
    source = Source()
    pipeline = Pipeline("s", Cache(ttl=10), is_failure=lambda text: text.endswith("1"))
    assert await pipeline.call(source.get) == "key 1"
    source.error = ConnectionError()
    with pytest.raises(ConnectionError):
        await pipeline.call(source.get)
    source.error = None
    assert [await pipeline.call(source.get) for _ in range(2)] == ["key 3", "key 3"]


async def test_none_is_an_answer() -> None:
    asked: list[int] = []

    async def nothing() -> None:
        asked.append(1)

    pipeline = Pipeline("s", Cache(ttl=10))
    assert [await pipeline.call(nothing) for _ in range(2)] == [None, None]
    assert asked == [1]


async def test_answers_are_shared_by_pipelines_and_can_be_forgotten() -> None:
    cache, source = Cache(ttl=10), Source()
    one, two = Pipeline("one", cache), Pipeline("two", cache)
    assert await one.call(source.get) == await two.call(source.get) == "key 1"
    cache.clear()
    assert await two.call(source.get) == "key 2"


# Stale


@pytest.mark.parametrize(
    "error", [ConnectionError(), TimeoutError(), StatusError(503), TimedOut("s", 1.0, "attempt")]
)
async def test_the_last_good_answer_stands_in_while_the_dependency_is_unavailable(error: Exception) -> None:
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append)
    source, pipeline = Source(), Pipeline("s", Cache(max_age=60))
    await pipeline.call(source.get)
    source.error = error
    await asyncio.sleep(60)
    with collect_degradations() as notes:
        assert await pipeline.call(source.get) == "key 1"
    unsubscribe()
    reason = type(error).__name__
    assert notes == [Degradation("s", reason, "cache", 60.0)]
    assert [(event.kind, event.details) for event in heard] == [
        ("fallback", {"source": "cache", "error": reason, "age": 60.0})
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(type(error)):
        await pipeline.call(source.get)
    assert counts() == {"fresh": 0, "stale": 1, "joined": 0, "misses": 3}


@pytest.mark.parametrize(
    "error",
    [TypeError("bug"), StatusError(404), StatusError(429), BulkheadFull("s"), RuntimeError("nobody knows")],
)
async def test_it_never_stands_in_for_anything_else(error: Exception) -> None:
    source, pipeline = Source(), Pipeline("s", Cache())
    await pipeline.call(source.get)
    source.error = error
    with pytest.raises(type(error)):
        await pipeline.call(source.get)


async def test_an_open_circuit_is_unavailability() -> None:
    source = Source()
    pipeline = Pipeline("s", Cache(), CircuitBreaker(fail_max=1))
    await pipeline.call(source.get)
    source.error = ConnectionError()
    assert [await pipeline.call(source.get) for _ in range(3)] == ["key 1"] * 3
    assert len(source.asked) == 2


async def test_a_max_age_of_zero_gives_no_stale_answers() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(max_age=0))
    await pipeline.call(source.get)
    source.error = ConnectionError()
    with pytest.raises(ConnectionError):
        await pipeline.call(source.get)


async def test_a_caller_whose_deadline_has_passed_gets_no_stale_answer() -> None:
    async def late() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError from None
        return "good"

    cache = Cache(key=lambda: "key")
    pipeline = Pipeline("s", cache)
    cache.memory.put((late, "key"), "good", 0.0)
    with collect_degradations() as notes:
        async with timeout(1):
            with pytest.raises(ConnectionError):
                await pipeline.call(late)
    assert notes == []


# Plain functions, streams, settings


def test_plain_functions_are_remembered_too() -> None:
    source, pipeline = Source(), Pipeline("s", Cache(ttl=1000, max_age=2000))
    assert [pipeline.call_sync(source.get_sync, "a") for _ in range(2)] == ["a 1", "a 1"]
    stale = Pipeline("stale", Cache())
    assert stale.call_sync(source.get_sync, "b") == "b 2"
    source.error = ConnectionError()
    with collect_degradations() as notes:
        assert stale.call_sync(source.get_sync, "b") == "b 2"
    assert [note.source for note in notes] == ["cache"]
    with pytest.raises(ConnectionError):
        stale.call_sync(source.get_sync, "c")
    source.error = TypeError()
    with pytest.raises(TypeError):
        stale.call_sync(source.get_sync, "b")
    assert counts("stale") == {"fresh": 0, "stale": 1, "joined": 0, "misses": 4}


def test_streams_are_refused_with_the_reason() -> None:
    with pytest.raises(TypeError, match="cache cannot guard an async generator: a stream is used up"):

        @Pipeline("s", Cache())
        async def items() -> AsyncGenerator[int, None]:
            yield 1


def test_the_operator_overrules_the_code_and_what_is_remembered_stays() -> None:
    cache = Cache(ttl=1, max_age=2, max_size=3)
    pipeline = Pipeline("s", cache)
    for number in range(3):
        cache.memory.put(number, number, 0.0)
    pipeline.apply(Settings({"S_CACHE_TTL": "10", "S_CACHE_MAX_AGE": "20", "S_CACHE_MAX_SIZE": "2"}))
    assert cache.settings() == {"ttl": 10.0, "max_age": 20.0, "max_size": 2, "single_flight": True}
    assert len(cache.memory) == 2
    pipeline.apply(Settings({"CACHE_TTL": "30", "CACHE_MAX_SIZE": "9"}))
    assert (cache.ttl, cache.memory.max_size) == (1.0, 3)
    assert Cache().settings() == {"ttl": 0.0, "max_age": 300.0, "max_size": 1024, "single_flight": True}


@pytest.mark.parametrize(
    "wrong",
    [{"ttl": -1}, {"ttl": float("nan")}, {"max_age": float("inf")}, {"max_size": 0}, {"max_size": 1.5}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Cache(**wrong)


def test_the_most_that_a_call_costs_is_not_known_where_it_may_wait_for_others() -> None:
    assert Pipeline("s", Cache()).describe()["seconds"] is None
    assert Pipeline("s", Cache()).describe()["requests"] == 1
