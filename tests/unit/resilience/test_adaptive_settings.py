"""The adaptive limit's arguments and settings, and its use from threads."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    ConfigurationError,
    Criticality,
    LimitReached,
    Pipeline,
    registry,
)
from mcp_server_langgraph.resilience.adaptive import AIMD, Gradient2, Vegas
from tests.unit.resilience.adaptive_helpers import Fixed, numbers


def test_it_begins_at_twenty_with_gradient2() -> None:
    policy = AdaptiveLimit()
    Pipeline("svc", policy)
    assert isinstance(policy.limiter.algorithm, Gradient2)
    assert repr(policy) == (
        "AdaptiveLimit(algorithm='gradient2', initial=20, min_limit=1, max_limit=200, max_queue=20, "
        "queue_target=0.005, queue_interval=0.1)"
    )
    assert (policy.name, numbers(policy).limit) == ("svc", 20)


def test_arguments_and_the_services_own_variables_are_followed() -> None:
    registry.reload(
        {"ADAPTIVE_MAX_LIMIT": "30", "SVC_ADAPTIVE_ALGORITHM": "AIMD", "ADAPTIVE_QUEUE_TARGET": "1"}
    )
    policy = AdaptiveLimit(
        "vegas", initial=7, min_limit=3, max_queue=2, partitions={Criticality.CRITICAL: 0.5}
    )
    Pipeline("svc", policy)
    assert isinstance(policy.limiter.algorithm, AIMD)
    assert policy.settings() == {
        "algorithm": "aimd",
        "initial": 7,
        "min_limit": 3,
        "max_limit": 30,
        "max_queue": 2,
        "queue_target": 1.0,
        "queue_interval": 0.1,
        "partitions": {"CRITICAL": 0.5},
    }


def test_a_reload_moves_the_bounds_and_keeps_the_limit_and_what_was_learnt() -> None:
    policy = AdaptiveLimit("vegas", initial=50, name="svc")
    pipeline = Pipeline("svc", policy)
    algorithm = policy.limiter.algorithm
    policy.limiter.places.free.pop()
    registry.reload({"ADAPTIVE_INITIAL_LIMIT": "5", "ADAPTIVE_MAX_LIMIT": "100"})
    assert (policy.limiter.algorithm, numbers(policy).limit, numbers(policy).active) == (algorithm, 50, 1)
    registry.reload({"ADAPTIVE_MAX_LIMIT": "30"})
    assert (policy.limiter.algorithm, numbers(policy).limit, numbers(policy).active) == (algorithm, 30, 1)
    registry.reload({"SVC_ADAPTIVE_ALGORITHM": "gradient2", "SVC_ADAPTIVE_MIN_LIMIT": "500"})
    assert isinstance(policy.limiter.algorithm, Gradient2)
    assert (numbers(policy).limit, policy.settings()["min_limit"]) == (200, 200)
    registry.reload({"ADAPTIVE_QUEUE_INTERVAL": "2"})
    assert policy.limiter.codels[2].interval == 2
    assert isinstance(policy.limiter.algorithm, Vegas)
    assert pipeline.snapshot()["adaptive_limit"].limit == 200


def test_ones_own_algorithm_stays_through_a_reload() -> None:
    fixed = Fixed(4)
    policy = AdaptiveLimit(fixed)
    Pipeline("svc", policy)
    registry.reload({"ADAPTIVE_ALGORITHM": "vegas"})
    assert policy.limiter.algorithm is fixed
    assert policy.settings()["algorithm"] == "Fixed"


def test_one_limit_in_two_pipelines_keeps_the_first_name() -> None:
    policy = AdaptiveLimit(Fixed(1), max_queue=0)
    first, second = Pipeline("first", policy), Pipeline("second", policy)

    def nested() -> None:
        with pytest.raises(LimitReached) as caught:
            second.call_sync(len, "")
        assert caught.value.pipeline == "first"

    first.call_sync(nested)
    assert numbers(policy).rejected == {("queue_full", "CRITICAL"): 1}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"algorithm": "cubic"}, "algorithm='cubic' must be one of 'aimd', 'gradient2', 'vegas'"),
        ({"algorithm": Gradient2}, "must be one of"),
        ({"algorithm": object()}, "must be one of"),
        ({"initial": 0}, "initial=0"),
        ({"initial": 2.5}, "initial=2.5"),
        ({"min_limit": 0}, "min_limit=0"),
        ({"max_limit": 0}, "max_limit=0"),
        ({"initial": 3, "max_limit": 2}, "must hold"),
        ({"initial": 3, "min_limit": 4}, "must hold"),
        ({"min_limit": 4, "max_limit": 3}, "must hold"),
        ({"max_queue": -1}, "max_queue=-1"),
        ({"queue_target": 0}, "queue_target=0"),
        ({"queue_interval": float("inf")}, "queue_interval=inf"),
        ({"queue_target": float("nan")}, "queue_target=nan"),
        ({"partitions": {Criticality.CRITICAL: 0.0}}, r"parts in \(0, 1\]"),
        ({"partitions": {2: 0.5}}, "levels of Criticality"),
        ({"partitions": {Criticality.CRITICAL: 0.7, Criticality.SHEDDABLE: 0.4}}, "more than the whole"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        AdaptiveLimit(**options)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("partitions", [None, {Criticality.CRITICAL: 0.5}])
def test_eight_threads_leave_every_place_as_it_was(partitions: dict[Criticality, float] | None) -> None:
    policy = AdaptiveLimit(Fixed(3), max_queue=8, queue_interval=60, partitions=partitions)
    pipeline = Pipeline("svc", policy)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    def hammer() -> None:
        for _ in range(100):
            pipeline.call_sync(work)

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert (len(most), max(most) <= 3, numbers(policy).active) == (800, True, 0)
    assert numbers(policy).rejected == {}
    assert [len(share) for share in policy.limiter.shares.busy] == [0, 0, 0, 0]


def test_a_thread_that_waited_long_enough_is_refused() -> None:
    policy = AdaptiveLimit(Fixed(1), queue_interval=0.001)
    policy.limiter.places.free.pop()
    with pytest.raises(LimitReached):
        Pipeline("svc", policy).call_sync(len, "")
    assert (numbers(policy).queued, numbers(policy).rejected) == (0, {("queue_time", "CRITICAL"): 1})


def test_a_thread_in_the_line_is_served_when_a_place_comes_free() -> None:
    policy = AdaptiveLimit(Fixed(1), queue_interval=60)
    policy.limiter.places.free.pop()
    timer = threading.Timer(0.01, lambda: policy.limiter.places.give_back(time.monotonic()))
    timer.start()
    assert Pipeline("svc", policy).call_sync(len, "four") == 4
    timer.join()
    assert sum(policy.counts.waits.value().counts) == 1
