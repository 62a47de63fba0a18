"""What a pipeline refuses when it is built, and what it tells of itself."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Event,
    Fallback,
    Kind,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
    Value,
    circuit_breaker,
    retry_with_backoff,
    subscribe,
    with_bulkhead,
    with_timeout,
)


async def fine() -> int:
    return 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "nonsense"), "'nonsense' is no policy"),
        (("x", Retry), "is no policy; make one: call it"),
        ((Retry(),), "the first argument is its name"),
        (("",), "the first argument is its name"),
        (("x", Retry(), Retry()), "retries twice"),
        (("x", Retry(), Fallback(Value(1))), "fallback inside retry"),
    ],
    ids=["no policy", "a class", "no name", "empty name", "two retries", "fallback inside"],
)
def test_what_cannot_be_right_is_refused_with_the_reason(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Pipeline(*arguments)


def test_the_same_object_twice_is_refused() -> None:
    breaker = CircuitBreaker("x")
    with pytest.raises(ConfigurationError, match="same policy object twice"):
        Pipeline("x", breaker, Retry(), breaker)


@pytest.mark.parametrize(("total", "attempt", "warned"), [(1, 5, True), (5, 5, True), (5, 1, False)])
def test_an_attempt_that_may_take_as_long_as_the_whole_is_warned_of(
    total: float, attempt: float, warned: bool
) -> None:
    events: list[Event] = []
    end = subscribe(events.append)
    pipeline = Pipeline("x", Timeout(total), Retry(), Timeout(attempt))
    end()
    assert [event.pipeline for event in events if event.kind == "warning"] == ["x"] * warned
    assert pipeline.name == "x"


@pytest.mark.parametrize("decorator", [circuit_breaker, retry_with_backoff, with_timeout, with_bulkhead])
def test_a_decorator_without_its_parentheses_is_refused_at_decoration(decorator: Any) -> None:
    with pytest.raises(TypeError, match=f"@{decorator.__name__} needs parentheses"):
        decorator(fine)


def test_a_wrong_kind_of_operation_names_the_kinds() -> None:
    with pytest.raises(ConfigurationError, match=r"Kind\.IDEMPOTENT_READ, Kind\.IDEMPOTENT_WRITE"):
        Retry(kind="idempotent")  # type: ignore[arg-type]


def test_repr_reads_like_the_code_that_built_it() -> None:
    pipeline = Pipeline(
        "x", Bulkhead(3, max_queue=1, max_wait=2.0), CircuitBreaker("x", fail_max=2, timeout=9.0)
    )
    assert repr(pipeline) == (
        "Pipeline('x', Bulkhead(limit=3, max_queue=1, max_wait=2.0), "
        "CircuitBreaker(name='x', fail_max=2, timeout=9.0, backoff=2.0, timeout_max=60.0, half_open_max=1, "
        "success_threshold=1))"
    )


def test_describe_tells_the_order_and_the_worst_case() -> None:
    pipeline = Pipeline("x", Timeout(9), Retry(4, jitter="none"), CircuitBreaker("x"), Timeout(1))
    told = pipeline.describe()
    assert [policy["policy"] for policy in told["policies"]] == [
        "timeout",
        "retry",
        "circuit_breaker",
        "timeout",
    ]
    assert (told["requests"], told["seconds"]) == (4, 9)
    free = Pipeline("y", Retry(3, jitter="none"), Timeout(2)).describe()
    # The dependency may ask for a minute before each later attempt.
    assert (free["requests"], free["seconds"]) == (3, 3 * 2 + 60 + 60)
    assert Pipeline("z", Retry(3)).describe()["seconds"] is None


def test_the_worst_case_follows_the_order() -> None:
    inside = Pipeline("x", Retry(3, retry_after_max=0), Bulkhead(1, max_wait=2), Timeout(4)).describe()
    assert inside["seconds"] == 3 * (2 + 4) + 1 + 2
    outside = Pipeline("x", Bulkhead(1, max_wait=2), Retry(3, retry_after_max=0), Timeout(4)).describe()
    assert outside["seconds"] == 2 + 3 * 4 + 1 + 2
    once = Pipeline("x", Retry(3, kind=Kind.NON_IDEMPOTENT), Timeout(4)).describe()
    assert (once["requests"], once["seconds"]) == (1, 4)


async def test_the_source_is_the_frame_that_runs() -> None:
    pipeline = Pipeline("x", CircuitBreaker("x"))
    assert "await fn(*args, **kwargs)" in pipeline.source()
    assert await pipeline.call(fine) == 1


def test_a_plain_call_through_a_timeout_is_refused_with_the_reason() -> None:
    with pytest.raises(TypeError, match="timeout cannot guard the plain function"):
        Pipeline("x", Timeout(1)).call_sync(int)


async def test_any_total_timeout_of_the_pipeline_that_expires_is_a_failure_of_the_dependency() -> None:
    for outer, inner in ((1, 5), (5, 1)):
        breaker = CircuitBreaker("x", fail_max=1)
        with pytest.raises(TimedOut):
            await Pipeline("x", Timeout(outer), Timeout(inner), breaker).call(asyncio.sleep, 9)
        assert breaker.state == "open"


def test_errors_survive_being_pickled_and_hold_nothing_of_the_systems_errors() -> None:
    error = TimedOut("x", 1.5, "attempt")
    again = pickle.loads(pickle.dumps(error))
    assert (again.pipeline, again.seconds, again.clock, str(again)) == ("x", 1.5, "attempt", str(error))
    assert again.errno is None
    refused = pickle.loads(pickle.dumps(CircuitOpen("x", 3.0)))
    assert (refused.pipeline, refused.retry_after) == ("x", 3.0)
