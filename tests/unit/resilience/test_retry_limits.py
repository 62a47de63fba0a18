"""Other limits and waits for classes of errors, within one call."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from mcp_server_langgraph.resilience import Budget, ConfigurationError, Limit, Pipeline, Retry, throttled
from tests.support.dependency import Dependency, HTTPError


async def times(
    *errors: BaseException, limits: list[Limit], attempts: int = 9, **options: Any
) -> list[float]:
    """When the attempts were made."""
    dependency = Dependency(*errors, *[ConnectionError()] * 20)
    retry = Retry(attempts, jitter="none", limits=limits, budget=Budget.unlimited(), **options)
    with pytest.raises((OSError, HTTPError, TypeError)):
        await Pipeline("svc", retry).call(dependency)
    return dependency.times


async def test_each_class_has_its_own_number_of_attempts_and_the_whole_call_one_too() -> None:
    limits = [Limit(TimeoutError, 1), Limit(ConnectionError, 3)]
    assert len(await times(limits=limits)) == 3
    assert len(await times(TimeoutError(), limits=limits)) == 1
    assert len(await times(ConnectionError(), TimeoutError(), limits=limits)) == 2
    assert len(await times(limits=limits, attempts=2)) == 2
    assert len(await times(HTTPError(500), HTTPError(500), limits=limits, attempts=9)) == 5


async def test_the_first_limit_that_matches_counts() -> None:
    limits = [Limit(ConnectionRefusedError, 1), Limit((OSError, LookupError), 4)]
    assert len(await times(ConnectionRefusedError(), limits=limits)) == 1
    assert len(await times(limits=limits)) == 4


async def test_a_function_is_asked_about_the_error() -> None:
    assert len(await times(HTTPError(429), limits=[Limit(throttled, 1)])) == 1
    assert len(await times(HTTPError(500), limits=[Limit(throttled, 1)], attempts=3)) == 3


async def test_short_waits_for_what_passes_and_long_ones_for_who_has_too_much_to_do() -> None:
    limits = [Limit(throttled, multiplier=1.0, wait_max=20.0), Limit(OSError, multiplier=0.0625)]
    made = await times(ConnectionError(), HTTPError(503), HTTPError(503), limits=limits, attempts=5)
    waits = [later - earlier for earlier, later in pairwise(made)]
    assert waits == [0.0625, 1.0, 2.0, 0.125]


async def test_a_cap_alone_keeps_the_growth_of_the_whole_call() -> None:
    made = await times(HTTPError(500), HTTPError(500), limits=[Limit(OSError, wait_max=1.5)], attempts=4)
    assert made == [0, 1, 3, 4.5]


async def test_counts_are_those_of_one_call() -> None:
    pipeline = Pipeline("svc", Retry(jitter="none", limits=[Limit(OSError, 2)]))
    for _ in range(2):
        dependency = Dependency(ConnectionError())
        assert await pipeline.call(dependency) == "fine"


async def test_a_limit_makes_nothing_retryable_and_does_not_judge_results() -> None:
    assert len(await times(TypeError(), limits=[Limit(TypeError, 5)])) == 1
    asked: list[Exception] = []
    retry = Retry(2, multiplier=0, limits=[Limit(lambda exc: asked.append(exc) is None, 1)])
    pipeline = Pipeline("svc", retry, is_failure=lambda result: result == "bad")
    assert await pipeline.call(Dependency("bad", "good")) == "good"
    assert asked == []


def test_the_worst_case_knows_the_longest_wait_of_all() -> None:
    slow = Retry(3, retry_after_max=0, limits=[Limit(OSError, multiplier=40, wait_max=50)])
    assert Pipeline("svc", slow).describe()["seconds"] is None
    assert slow._longest_wait(1) == 40
    assert slow._longest_wait(2) == 50
    spread = Retry(4, jitter="decorrelated", multiplier=0.5)
    assert [spread._longest_wait(number) for number in (1, 2, 3)] == [1.5, 4.5, 10]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"match": TimeoutError, "max_attempts": 0}, "max_attempts=0"),
        ({"match": TimeoutError, "multiplier": -1}, "multiplier=-1"),
        ({"match": TimeoutError, "wait_max": math.nan}, "wait_max=nan"),
        ({"match": int}, "match=<class 'int'>"),
        ({"match": "TimeoutError"}, "match='TimeoutError'"),
        ({"match": (TimeoutError, "x")}, "match="),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Limit(**arguments)


async def test_unions_of_types_are_types_too() -> None:
    assert len(await times(limits=[Limit(TimeoutError | ConnectionError, 2)])) == 2  # type: ignore[arg-type]


def test_the_settings_show_limits_and_budget() -> None:
    limit = Limit(ConnectionError, max_attempts=2)
    retry = Retry(4, limits=[limit], retry_after_max=30, budget=Budget(0.1, per_second=2.0))
    shown = Pipeline("svc", retry).describe()["policies"][0]
    assert (shown["limits"], shown["retry_after_max"], shown["budget"]) == ((limit,), 30, retry.budget)
    assert repr(retry).endswith("retry_after_max=30, budget=Budget(ratio=0.1, per_second=2.0))")
    assert "limits" not in Retry().settings()
