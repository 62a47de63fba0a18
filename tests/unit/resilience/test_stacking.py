"""Retries on top of retries: found, told once, not multiplied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Budget,
    Event,
    Pipeline,
    Retry,
    retry_with_backoff,
    stacking,
    subscribe,
)
from mcp_server_langgraph.resilience.policy import Policy
from tests.support.dependency import Dependency, down


@pytest.fixture
def told() -> Iterator[list[Event]]:
    warnings: list[Event] = []
    end = subscribe(lambda event: warnings.append(event) if event.kind == "warning" else None)
    yield warnings
    end()


def retrying(name: str, attempts: int = 3, **options: Any) -> Pipeline:
    options.setdefault("budget", Budget.unlimited())
    return Pipeline(name, Retry(attempts, multiplier=0.1, jitter="none", **options))


async def test_the_outer_retry_does_not_retry_what_the_inner_one_has(told: list[Event]) -> None:
    dependency = Dependency(*down())
    outer, inner = retrying("outer", 4), retrying("inner", 3)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await outer.call(inner.call, dependency)
    assert len(dependency.times) == 2 * 3
    assert [event.details for event in told] == [
        {
            "problem": "stacked retries",
            "outer": "outer",
            "inner": "inner",
            "requests": 12,
            "advice": "let one of 'outer' and 'inner' retry",
        }
    ]


async def test_an_outer_retry_that_was_told_to_multiplies() -> None:
    dependency = Dependency(*down())
    outer, inner = retrying("outer", stacked=True), retrying("inner")
    with pytest.raises(ConnectionError):
        await outer.call(inner.call, dependency)
    assert len(dependency.times) == 9


async def test_what_the_inner_one_did_not_retry_is_the_outer_ones_to_retry(told: list[Event]) -> None:
    dependency = Dependency(*down())
    with pytest.raises(ConnectionError):
        await retrying("outer").call(retrying("inner", 1).call, dependency)
    assert (len(dependency.times), told) == (3, [])


async def test_one_attempt_above_or_an_error_that_nobody_retries_is_no_stack(told: list[Event]) -> None:
    with pytest.raises(ConnectionError):
        await retrying("outer", 1).call(retrying("inner").call, Dependency(*down()))
    with pytest.raises(TypeError):
        await retrying("outer").call(retrying("inner").call, Dependency(ConnectionError(), TypeError()))
    assert told == []


async def test_a_budget_that_is_used_up_below_is_not_got_round_from_above() -> None:
    dependency = Dependency(*down())

    async def slowly() -> str:
        await asyncio.sleep(0.1)
        return await dependency()

    inner = retrying("inner", budget=Budget(0, per_second=0))
    with pytest.raises(ConnectionError):
        await retrying("outer").call(inner.call, slowly)
    assert len(dependency.times) == 1


@pytest.mark.parametrize("how", ["cause", "group", "exhausted"])
async def test_an_inner_retry_is_seen_through_what_wraps_its_error(how: str, told: list[Event]) -> None:
    dependency = Dependency(*down())
    inner = retrying("inner", reraise=how != "exhausted")

    async def wrapped() -> None:
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(inner.call(dependency))
        else:
            try:
                await inner.call(dependency)
            except Exception as exc:
                raise RuntimeError("could not fetch") from exc

    with pytest.raises((ExceptionGroup, RuntimeError)):
        await retrying("outer").call(wrapped)
    assert (len(dependency.times), len(told)) == (3, 1)


async def test_an_error_object_that_an_earlier_call_retried_says_nothing_of_this_one() -> None:
    error = ConnectionError()
    with pytest.raises(ConnectionError):
        await retrying("other").call(Dependency(*[error] * 9))
    dependency = Dependency(*[error] * 9)
    with pytest.raises(ConnectionError):
        await retrying("outer").call(dependency)
    assert len(dependency.times) == 3


async def test_nor_does_one_that_another_call_of_the_same_pipeline_gave_up_on() -> None:
    error = ConnectionError()
    pipeline = Pipeline("svc", Retry(jitter="none", budget=Budget.unlimited()))
    first, second = Dependency(*[error] * 9), Dependency(*[error] * 9)

    async def later() -> None:
        await asyncio.sleep(2.5)
        await pipeline.call(second)

    await asyncio.gather(pipeline.call(first), later(), return_exceptions=True)
    assert (first.times, second.times) == ([0, 1, 3], [2.5, 3.5, 5.5])


def test_nor_does_one_of_another_loop() -> None:
    from mcp_server_langgraph.resilience.testing import run

    error = ConnectionError()

    async def once(name: str, pause: float) -> int:
        await asyncio.sleep(pause)
        dependency = Dependency(*[error] * 9)
        with pytest.raises(ConnectionError):
            await retrying(name).call(dependency)
        return len(dependency.times)

    assert [run(once("first", 9)), run(once("second", 0))] == [3, 3]


def test_plain_functions_are_seen_too_also_through_a_thread(told: list[Event]) -> None:
    reached: list[int] = []

    def fails() -> None:
        reached.append(1)
        raise ConnectionError

    inner = Pipeline("inner", Retry(2, multiplier=0.001))
    with pytest.raises(ConnectionError):
        Pipeline("outer", Retry(2, multiplier=0)).call_sync(inner.call_sync, fails)
    assert (len(reached), len(told)) == (2, 1)

    async def main() -> None:
        await Pipeline("async", Retry(2, multiplier=0)).call(asyncio.to_thread, inner.call_sync, fails)

    with pytest.raises(ConnectionError):
        asyncio.run(main())
    assert (len(reached), len(told)) == (4, 2)


class SDKError(Exception):
    """As openai's and anthropic's SDKs raise it: with the last request."""

    def __init__(self, retries: object) -> None:
        super().__init__()
        self.status_code = 500
        self.request = SimpleNamespace(headers={"x-stainless-retry-count": retries})


SDKError.__module__ = "openai._exceptions"


@pytest.mark.parametrize(("retries", "reached"), [("2", 1), ("0", 3), ("many", 3), (None, 3)])
async def test_a_client_that_says_that_it_has_retried_is_named_and_not_retried(
    retries: object, reached: int, told: list[Event]
) -> None:
    dependency = Dependency(*[SDKError(retries)] * 9)
    with pytest.raises(SDKError):
        await retrying("llm").call(dependency)
    assert len(dependency.times) == reached
    inner = [(event.details["inner"], event.details["requests"]) for event in told]
    assert inner == ([("openai client", 9)] if reached == 1 else [])


# At the start


def test_our_own_pipelines_and_decorated_functions_are_recognised() -> None:
    @retry_with_backoff(max_attempts=4)
    async def fetch() -> None: ...

    (found,) = stacking.check(fetch)
    assert (found.client.endswith("fetch"), found.attempts) == (True, 4)
    assert [each.attempts for each in stacking.check(retrying("svc", 5))] == [5]
    assert stacking.check(retrying("svc", 1)) == []
    assert stacking.check(object()) == []
    assert stacking.check(Policy) == []


class Awkward:
    @property
    def retry(self) -> None:
        raise RuntimeError("not now")


def test_an_awkward_client_is_no_finding() -> None:
    assert stacking.check(Awkward()) == []


def test_an_audit_warns_once_with_both_names_and_the_product(told: list[Event]) -> None:
    pipeline, client = retrying("svc", 3), retrying("client", 4)
    for _ in range(2):
        assert len(stacking.audit(pipeline, client, object())) == 1
    stacking.audit(retrying("single", 1), client)
    assert [(event.pipeline, event.details["inner"], event.details["requests"]) for event in told] == [
        ("svc", "mcp_server_langgraph.Pipeline", 12)
    ]
