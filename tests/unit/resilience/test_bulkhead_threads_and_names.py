"""The bulkhead in threads, its name in a stack, and its arguments."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    ConfigurationError,
    Pipeline,
    circuit_breaker,
    registry,
    with_bulkhead,
)
from mcp_server_langgraph.resilience._machines.places import ThreadWaiter
from mcp_server_langgraph.resilience._stack import pipeline_of


def numbers(bulkhead: Bulkhead) -> tuple[int, int, int, int]:
    """(limit, active, queued, rejected), the same in snapshot and metrics."""
    snapshot = bulkhead.snapshot()
    told = {
        metric.name: next(iter(metric.samples.values())) for metric in registry.metrics() if metric.samples
    }
    read = tuple(
        told[f"bulkhead_{name}"] for name in ("limit", "active_operations", "queue_depth", "rejections_total")
    )
    assert (snapshot.limit, snapshot.active, snapshot.queued, snapshot.rejected) == read
    return snapshot.limit, snapshot.active, snapshot.queued, snapshot.rejected


def test_plain_functions_wait_in_their_threads() -> None:
    bulkhead = Bulkhead(1, max_wait=30)
    pipeline = Pipeline("svc", bulkhead)
    first_is_in, go_on = threading.Event(), threading.Event()
    order = []

    def first() -> None:
        first_is_in.set()
        assert go_on.wait(30)
        order.append("first")

    threads = [threading.Thread(target=pipeline.call_sync, args=(first,), daemon=True)]
    threads[0].start()
    assert first_is_in.wait(30)
    threads.append(threading.Thread(target=pipeline.call_sync, args=(order.append, "second"), daemon=True))
    threads[1].start()
    while not bulkhead.places.waiting:
        threading.Event().wait(0.001)
    assert bulkhead.snapshot().queued == 1
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert order == ["first", "second"]
    assert numbers(bulkhead) == (1, 0, 0, 0)
    assert sum(bulkhead.counts.waits.counts) == 1  # of the second; the first found a place


def test_a_thread_that_waited_long_enough_is_refused() -> None:
    bulkhead = Bulkhead(1, max_wait=0.001)
    bulkhead.places.free.pop()
    pipeline = Pipeline("svc", bulkhead)
    with pytest.raises(BulkheadFull):
        pipeline.call_sync(len, "")
    assert numbers(bulkhead) == (1, 1, 0, 1)


def test_a_thread_may_wait_without_end() -> None:
    bulkhead = Bulkhead(1, max_wait=float("inf"))
    bulkhead.places.free.pop()
    timer = threading.Timer(0.01, bulkhead.places.give_back)
    timer.start()
    assert Pipeline("svc", bulkhead).call_sync(len, "four") == 4
    timer.join()


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_thread_interrupted_while_waiting_leaves_no_trace(
    handed_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulkhead = Bulkhead(1, max_wait=10)
    bulkhead.places.free.pop()

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if handed_over:
                bulkhead.places.give_back()
            raise KeyboardInterrupt

    def waiter() -> ThreadWaiter:
        made = ThreadWaiter()
        made.event = Interrupted()
        return made

    monkeypatch.setattr("mcp_server_langgraph.resilience.bulkhead.ThreadWaiter", waiter)
    pipeline = Pipeline("svc", bulkhead)
    with pytest.raises(KeyboardInterrupt):
        pipeline.call_sync(len, "")
    assert numbers(bulkhead) == (1, 0 if handed_over else 1, 0, 0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"limit": 0}, "limit=0"),
        ({"limit": 2.5}, "limit=2.5"),
        ({"limit": "3"}, "limit='3'"),
        ({"limit": 1, "max_queue": -1}, "max_queue=-1"),
        ({"limit": 1, "max_queue": float("nan")}, "max_queue=nan"),
        ({"limit": 1, "max_wait": -0.1}, "max_wait=-0.1"),
        ({"limit": 1, "max_wait": float("nan")}, "max_wait=nan"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        Bulkhead(**options)


def test_a_limit_cannot_be_changed_to_nothing() -> None:
    with pytest.raises(ConfigurationError, match="limit=0"):
        Bulkhead(1).resize(0)


def test_in_a_stack_it_takes_the_name_and_the_settings_of_the_breaker_above() -> None:
    registry.reload({"OPENFGA_CONCURRENCY_LIMIT": "7"})

    @circuit_breaker(name="openfga")
    @with_bulkhead(limit=50)
    async def check() -> None: ...

    pipeline = pipeline_of(check)
    assert pipeline is not None
    assert pipeline.describe()["policies"][1]["limit"] == 7
    (limits,) = (metric.samples for metric in registry.metrics() if metric.name == "bulkhead_limit")
    assert limits == {("openfga",): 7}


def test_alone_it_has_the_name_of_its_function_and_given_one_it_keeps_it() -> None:
    @with_bulkhead(limit=3)
    async def alone() -> None: ...

    @circuit_breaker(name="svc")
    @with_bulkhead(limit=4, name="own")
    async def named() -> None: ...

    limits = next(metric.samples for metric in registry.metrics() if metric.name == "bulkhead_limit")
    assert sorted(limits.values()) == [3, 4]  # type: ignore[type-var]
    assert {name.rpartition(".")[2] for (name,) in limits} == {"alone", "own"}
    assert (pipeline_of(alone) is None, pipeline_of(named) is None) == (False, False)


def test_one_bulkhead_in_two_pipelines_keeps_the_first_name_and_one_limit() -> None:
    bulkhead = Bulkhead(1, max_wait=0)
    first, second = Pipeline("first", bulkhead), Pipeline("second", bulkhead)

    def nested() -> None:
        with pytest.raises(BulkheadFull):
            second.call_sync(len, "")

    first.call_sync(nested)
    assert (bulkhead.name, numbers(bulkhead)) == ("first", (1, 0, 0, 1))
