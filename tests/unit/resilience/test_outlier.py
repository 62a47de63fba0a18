"""Outlier ejection in a pipeline: who is called, what is told to the function, what counts, and what is told of it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Budget,
    ConfigurationError,
    Endpoints,
    Event,
    Hedge,
    Outlier,
    OutlierRules,
    Pipeline,
    Retry,
    Settings,
    TimedOut,
    Timeout,
    current_endpoint,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.policy import Call, Policy, Proceed
from mcp_server_langgraph.resilience.testing import settle

ABC = ("a", "b", "c")


def in_turn(**options: Any) -> Outlier:
    return Outlier(ABC, pick="round_robin", rules=OutlierRules(consecutive_failures=2), **options)


class Hosts:
    """A function that asks where it is sent; the hosts of ``sick`` fail."""

    def __init__(self, *sick: str, error: type[BaseException] = ConnectionError) -> None:
        self.sick = set(sick)
        self.error = error
        self.asked: list[str | None] = []

    async def ask(self) -> str | None:
        endpoint = current_endpoint()
        self.asked.append(endpoint)
        if endpoint in self.sick:
            raise self.error
        return endpoint


async def ask_often(pipeline: Pipeline, fn: Callable[[], Awaitable[Any]], times: int) -> int:
    """How many of the calls succeeded."""
    good = 0
    for _ in range(times):
        try:
            await pipeline.call(fn)
            good += 1
        except (ConnectionError, ValueError):
            pass
    return good


async def test_a_sick_endpoint_gets_no_calls_until_its_time_is_over() -> None:
    hosts = Hosts("b")
    pipeline = Pipeline("search", in_turn())

    assert await ask_often(pipeline, hosts.ask, 6) == 4
    hosts.asked.clear()
    assert await ask_often(pipeline, hosts.ask, 6) == 6
    assert "b" not in hosts.asked

    await asyncio.sleep(30)
    hosts.sick.clear()
    assert await ask_often(pipeline, hosts.ask, 3) == 3
    assert "b" in hosts.asked


async def test_the_name_may_come_as_an_argument() -> None:
    pipeline = Pipeline("search", in_turn(argument="host"))

    async def ask(question: str, *, host: str) -> str:
        assert current_endpoint() is None
        return f"{question} {host}"

    assert [await pipeline.call(ask, "who?") for _ in range(3)] == ["who? a", "who? b", "who? c"]  # type: ignore[call-arg]


async def test_nothing_is_named_outside_of_a_call() -> None:
    pipeline = Pipeline("search", in_turn())
    await pipeline.call(Hosts().ask)
    assert current_endpoint() is None


async def test_what_is_no_failure_of_the_endpoint_counts_for_nothing() -> None:
    outlier = in_turn()
    pipeline = Pipeline("search", outlier)
    hosts = Hosts(*ABC, error=ValueError)
    await ask_often(pipeline, hosts.ask, 9)

    async def hang() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(pipeline.call(hang))
    await settle()
    assert sum(each.in_flight for each in outlier.snapshot().endpoints.values()) == 1
    task.cancel()
    await settle()
    abandoned = pipeline.call(hang).__await__()
    next(abandoned)
    del abandoned
    gc.collect()

    shown = outlier.snapshot()
    assert shown.rotation == ABC
    assert all(each.in_flight == each.consecutive_failures == 0 for each in shown.endpoints.values())


async def test_a_cut_attempt_is_a_failure_of_its_endpoint() -> None:
    outlier = in_turn()
    pipeline = Pipeline("search", Retry(max_attempts=2, budget=Budget.unlimited()), outlier, Timeout(1))

    async def ask() -> str | None:
        if current_endpoint() == "a":
            await asyncio.sleep(10)
        return current_endpoint()

    answers = [await pipeline.call(ask) for _ in range(6)]
    assert "a" not in answers
    assert outlier.snapshot().rotation == ("b", "c")


async def test_a_retry_goes_to_an_endpoint_that_the_call_has_not_tried() -> None:
    tries: list[str | None] = []

    async def ask() -> None:
        tries.append(current_endpoint())
        raise ConnectionError

    # The least in flight is always the same one here, where nothing else runs.
    pipeline = Pipeline(
        "search",
        Retry(max_attempts=4, budget=Budget.unlimited()),
        Outlier(ABC, pick="power_of_two", chance=lambda: 0.0, rules=OutlierRules(consecutive_failures=100)),
    )
    for _ in range(3):
        tries.clear()
        with pytest.raises(ConnectionError):
            await pipeline.call(ask)
        assert tries[:3] == ["a", "b", "c"]  # and every call begins where it likes
        assert tries[3] != "c"


class Twice(Policy):
    """Two attempts at once, as a hedge has them."""

    kind = "twice"

    async def run(self, call: Call, proceed: Proceed) -> Any:
        copy = Call(call.fn, call.args, call.kwargs, call.site, call.attempt)
        return await asyncio.gather(proceed(call), proceed(copy))


async def test_attempts_of_one_call_that_run_at_once_go_to_different_endpoints() -> None:
    outlier = Outlier(ABC, pick="power_of_two", chance=lambda: 0.0)
    pipeline = Pipeline("search", Twice(), outlier)

    async def ask() -> Any:
        await asyncio.sleep(1)
        return current_endpoint()

    assert await pipeline.call(ask) == ["a", "b"]
    both = await asyncio.gather(pipeline.call(ask), pipeline.call(ask))
    assert all(first != second for first, second in both)
    [at] = pipeline.bound[1:]
    assert vars(at)["_running"] == {}


async def test_a_hedge_goes_to_another_endpoint_though_that_is_busier() -> None:
    asked: list[str | None] = []

    async def ask() -> str | None:
        asked.append(current_endpoint())
        await asyncio.sleep(60 if len(asked) == 1 else 0.5)
        return current_endpoint()

    endpoints = Endpoints(("a", "b"))
    others = [endpoints.pick(0.0, avoid=["a"]) for _ in range(3)]
    pipeline = Pipeline("search", Hedge(1.0, budget=Budget.unlimited()), Outlier(endpoints))
    assert await pipeline.call(ask) == "b"
    assert asked == ["a", "b"]
    assert [other.name for other in others] == ["b"] * 3


async def test_plain_functions_are_sent_too() -> None:
    outlier = in_turn()
    pipeline = Pipeline("search", outlier)

    @pipeline
    def ask() -> str | None:
        if current_endpoint() == "a":
            raise ConnectionError
        return current_endpoint()

    for _ in range(6):
        try:
            ask()
        except ConnectionError:
            continue
    assert outlier.snapshot().rotation == ("b", "c")


async def test_a_stream_is_recorded_at_its_end_and_names_its_endpoint_step_by_step() -> None:
    outlier = Outlier(ABC, pick="round_robin", rules=OutlierRules(consecutive_failures=1))
    pipeline = Pipeline("search", outlier)

    @pipeline
    async def items(breaks: bool) -> AsyncGenerator[str | None, None]:
        yield current_endpoint()
        yield current_endpoint()
        if breaks:
            raise ConnectionError

    got = []
    async for item in items(False):
        got.append(item)
        assert current_endpoint() is None
    assert got == ["a", "a"]

    stream = items(True)
    assert await anext(stream) == "b"
    assert outlier.snapshot().endpoints["b"].in_flight == 1
    await anext(stream)
    assert outlier.snapshot().rotation == ABC
    with pytest.raises(Exception, match="interrupted"):
        await anext(stream)
    assert outlier.snapshot().rotation == ("a", "c")

    left = items(True)
    await anext(left)
    await left.aclose()
    assert [each.in_flight for each in outlier.snapshot().endpoints.values()] == [0, 0, 0]
    assert outlier.snapshot().rotation == ("a", "c")


async def test_a_retried_stream_begins_elsewhere() -> None:
    pipeline = Pipeline("search", Retry(max_attempts=3), Outlier(ABC, chance=lambda: 0.0))

    async def items() -> AsyncGenerator[str | None, None]:
        if current_endpoint() == "a":
            raise ConnectionError
        yield current_endpoint()

    assert [item async for item in pipeline.stream(items)] == ["b"]


async def test_what_happens_is_told() -> None:
    told: list[Event] = []
    stop = subscribe(told.append)
    endpoints = Endpoints(ABC, OutlierRules(consecutive_failures=1), pick="round_robin")
    pipeline = Pipeline("search", Outlier(endpoints))
    hosts = Hosts("b")
    await ask_often(pipeline, hosts.ask, 3)
    endpoints.set_healthy("a", False)
    await ask_often(pipeline, hosts.ask, 1)
    endpoints.set_healthy("a", True)
    await asyncio.sleep(30)
    await ask_often(pipeline, Hosts().ask, 1)
    stop()

    assert [(event.kind, event.details) for event in told] == [
        ("ejected", {"endpoint": "b", "cause": "consecutive_failures", "seconds": 30.0}),
        ("panic", {"cause": "1 of 3 left"}),
        ("calm", {"cause": "2 of 3 left"}),
        ("returned", {"endpoint": "b"}),
    ]


async def test_metrics_tell_who_is_out() -> None:
    pipeline = Pipeline("search", in_turn())
    await ask_often(pipeline, Hosts("c").ask, 6)
    metrics = {metric.name: metric.samples for metric in registry.metrics()}
    assert metrics["outlier_ejected"] == {("search", name): float(name == "c") for name in ABC}
    assert metrics["outlier_ejections_total"] == {("search", "c", "consecutive_failures"): 1}
    assert metrics["outlier_panic"] == {("search",): 0.0}


async def test_a_reload_changes_the_rules_and_keeps_who_is_ejected() -> None:
    outlier = Outlier(ABC, pick="round_robin")
    pipeline = Pipeline("search", outlier)
    await ask_often(pipeline, Hosts("a").ask, 15)
    assert outlier.snapshot().rotation == ("b", "c")

    registry.reload({"OUTLIER_CONSECUTIVE_FAILURES": "1", "SEARCH_OUTLIER_MAX_SHARE": "0.7"})
    await ask_often(pipeline, Hosts("b").ask, 2)

    shown = outlier.settings()
    assert (shown["consecutive_failures"], shown["max_share"], shown["interval"]) == (1, 0.7, 10.0)
    assert [each.name for each in outlier.endpoints.ejected()] == ["a", "b"]
    assert outlier.snapshot().panic  # one of three is left

    registry.reload({"OUTLIER_MAX_SHARE": "0.1"})
    assert [each.name for each in outlier.endpoints.ejected()] == ["b"]


def test_rules_in_code_win_over_global_settings_and_lose_to_the_services_own() -> None:
    outlier = Outlier(ABC, rules=OutlierRules(interval=7), name="search")
    outlier.apply(Settings({"OUTLIER_INTERVAL": "3"}), "search")
    assert outlier.settings()["interval"] == 7
    outlier.apply(Settings({"SEARCH_OUTLIER_INTERVAL": "3"}), "search")
    assert outlier.settings()["interval"] == 3


def test_an_endpoints_object_has_rules_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="rules of its own"):
        Outlier(Endpoints(ABC), rules=OutlierRules())
    with pytest.raises(ConfigurationError, match="pick='best'"):
        Outlier(ABC, pick="best")


async def test_one_set_of_endpoints_serves_many_pipelines() -> None:
    endpoints = Endpoints(ABC, OutlierRules(consecutive_failures=2), pick="round_robin")
    reads, writes = Pipeline("reads", Outlier(endpoints)), Pipeline("writes", Outlier(endpoints))
    await ask_often(reads, Hosts("a").ask, 6)
    hosts = Hosts("a")
    assert await ask_often(writes, hosts.ask, 6) == 6


def test_by_hand() -> None:
    endpoints = Endpoints(["eu", "us"], OutlierRules(consecutive_failures=1), pick="least_in_flight")
    first, second = endpoints.pick(0.0), endpoints.pick(0.0)
    assert {first.name, second.name} == {"eu", "us"}
    endpoints.failed(first, 1.0)
    endpoints.succeeded(second, 1.0)
    assert [endpoints.pick(2.0).name for _ in range(2)] == [second.name] * 2
    endpoints.update(["eu", "us", "asia"])
    assert endpoints.pick(3.0).name == "asia"


async def test_a_timed_out_call_is_neutral_where_the_caller_was_in_a_hurry() -> None:
    outlier = Outlier(ABC, pick="round_robin", rules=OutlierRules(consecutive_failures=1))
    pipeline = Pipeline("search", outlier)
    with pytest.raises(TimedOut):
        await Pipeline("caller", Timeout(1)).call(pipeline.call, asyncio.sleep, 5)
    assert outlier.snapshot().rotation == ABC
