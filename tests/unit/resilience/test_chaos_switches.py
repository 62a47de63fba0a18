"""Chaos cannot be left on unseen: who has to want it, for how long, and what tells of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Chaos,
    ConfigurationError,
    Event,
    Pipeline,
    Settings,
    Timeout,
    Window,
    collect_degradations,
    config,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.policy import Guard

ON = {"CHAOS_ENABLED": "true"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    config.install(Settings(ON))
    yield
    registry.reset()


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []

    def listen(event: Event) -> None:
        if event.kind == "chaos":
            events.append(event.details)

    unsubscribe = subscribe(listen)
    yield events
    unsubscribe()


def every(**options: Any) -> Chaos:
    return Chaos(rate=1, enabled=True, **options)


async def fine() -> str:
    return "fine"


def metric(name: str) -> dict[tuple[str, ...], Any]:
    return next(each.samples for each in registry.metrics() if each.name == name)


@pytest.mark.parametrize(
    ("code", "environ", "on"),
    [
        (False, {}, False),
        (True, {}, False),
        (False, ON, False),
        (True, ON, True),
        (True, {"S_CHAOS_ENABLED": "true"}, True),
        (True, {**ON, "S_CHAOS_ENABLED": "false"}, False),
        (True, {**ON, "ENVIRONMENT": "production"}, False),
        (True, {**ON, "ENVIRONMENT": "Prod"}, False),
        (True, {**ON, "ENVIRONMENT": "staging"}, True),
        (True, {**ON, "ENVIRONMENT": "production", "CHAOS_ALLOW_PRODUCTION": "true"}, True),
    ],
)
async def test_code_and_operator_have_to_want_it_and_production_refuses(
    code: bool, environ: dict[str, str], on: bool
) -> None:
    config.install(Settings(environ))
    chaos = Chaos(outcome="struck", rate=1, enabled=code)
    pipeline = Pipeline("s", chaos)
    assert await pipeline.call(fine) == ("struck" if on else "fine")
    assert chaos.snapshot().state == ("on" if on else "off")


async def test_where_the_code_does_not_want_it_a_reload_changes_nothing() -> None:
    pipeline = Pipeline("s", Chaos(outcome="struck", rate=1))
    assert type(pipeline.bound[0]) is Guard  # which is fused with its neighbours: it costs next to nothing
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    assert pipeline.call_sync(lambda: "fine") == "fine"


async def test_it_expires_by_itself_and_says_so_once(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck")
    pipeline = Pipeline("s", chaos)
    await asyncio.sleep(899)
    assert await pipeline.call(fine) == "struck"
    await asyncio.sleep(1)
    assert [await pipeline.call(fine) for _ in range(2)] == ["fine"] * 2
    assert heard == [
        {"state": "on", "rate": 1.0, "max_duration": 900.0},
        {"state": "striking", "injected": 1},
        {"state": "expired", "injected": 1},
    ]
    assert metric("chaos_active") == {("s",): 0}


async def test_it_expires_though_nobody_calls(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck", max_duration=60)
    pipeline = Pipeline("s", chaos)
    assert metric("chaos_active") == {("s",): 1}
    await asyncio.sleep(60)
    assert metric("chaos_active") == {("s",): 0}
    assert [event["state"] for event in heard] == ["on", "expired"]
    assert pipeline.snapshot()["chaos"].state == "expired"


async def test_reloading_does_not_prolong_it_and_switching_off_and_on_does(
    heard: list[dict[str, Any]],
) -> None:
    pipeline = Pipeline("s", every(outcome="struck", max_duration=60))
    await asyncio.sleep(59)
    registry.reload(ON)
    await asyncio.sleep(1)
    assert await pipeline.call(fine) == "fine"
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    registry.reload({})
    registry.reload(ON)
    assert await pipeline.call(fine) == "struck"
    registry.reload({})
    assert await pipeline.call(fine) == "fine"
    assert [event["state"] for event in heard] == ["on", "expired", "on", "striking", "off"]


async def test_it_can_be_stopped_from_code(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck")
    pipeline = Pipeline("s", chaos)
    chaos.stop()
    chaos.stop()
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    assert [event["state"] for event in heard] == ["on", "off"]


async def test_production_is_told_why_nothing_happens(heard: list[dict[str, Any]]) -> None:
    config.install(Settings({**ON, "ENVIRONMENT": "production"}))
    pipeline = Pipeline("s", every(outcome="struck"))
    registry.reload({**ON, "ENVIRONMENT": "production"})
    assert await pipeline.call(fine) == "fine"
    assert heard == [{"state": "refused", "environment": "production"}]


async def test_it_is_seen_while_it_is_on(
    heard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline("s", every(outcome="struck", latency=0))
    with collect_degradations() as notes:
        for _ in range(101):
            await pipeline.call(fine)
    assert [event["state"] for event in heard] == ["on", "striking", "striking", "striking"]
    assert [event.get("injected") for event in heard] == [None, 1, 101, 201]
    assert {(note.service, note.reason, note.source) for note in notes} == {
        ("s", "chaos", "latency"),
        ("s", "chaos", "outcome"),
    }
    assert "'state': 'on'" in str(pipeline.describe())
    assert "state='on'" in repr(pipeline)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert metric("chaos_injected_total")[("s", "outcome")] == 101


async def test_a_schedule_says_when() -> None:
    chaos = every(outcome="struck", schedule=Window(1, 2, every=10), max_duration=100)
    pipeline = Pipeline("s", chaos)
    struck = []
    for second in range(25):
        if await pipeline.call(fine) == "struck":
            struck.append(second)
        await asyncio.sleep(1)
    assert struck == [1, 11, 21]


async def test_the_operator_overrules_rate_and_duration() -> None:
    config.install(Settings({**ON, "S_CHAOS_RATE": "0", "S_CHAOS_MAX_DURATION": "5"}))
    chaos = every(outcome="struck", max_duration=50)
    assert await Pipeline("s", chaos).call(fine) == "fine"
    assert (chaos.settings()["rate"], chaos.settings()["max_duration"]) == (0.0, 5.0)
    config.install(Settings({}))
    assert Chaos(latency=1).machine.rate == 0.0
    assert Pipeline("s", Chaos(latency=1)).policies[0].settings()["rate"] == 0.001


def test_settings_name_what_it_does() -> None:
    chaos = Chaos(fault=ConnectionError("secret"), latency=random.Random.random, rate=0.5)
    Pipeline("s", chaos)
    assert chaos.settings() == {
        "fault": "ConnectionError",
        "latency": "Random.random" if "Random" in random.Random.random.__qualname__ else "random",
        "rate": 0.5,
        "max_duration": 900.0,
        "state": "off",
    }
    assert Chaos(outcome=503, behaviour=print).settings()["outcome"] == 503


def test_latency_adds_to_the_worst_case() -> None:
    assert Pipeline("s", Timeout(9), every(latency=(1, 2))).describe()["seconds"] == 9
    cost = every(latency=(1, 2)).worst_case(Timeout(1).worst_case(Chaos(latency=5).worst_case(_cost())))
    assert (cost.requests, cost.seconds) == (1, 2.5)
    assert every(latency=lambda chance: 1.0).worst_case(_cost()).seconds == float("inf")


def _cost() -> Any:
    from mcp_server_langgraph.resilience.policy import Cost

    return Cost(1, 0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "nothing to do"),
        ({"fault": ConnectionError, "outcome": 1}, "exclude each other"),
        ({"fault": "down"}, "fault='down'"),
        ({"behaviour": 3}, "behaviour=3"),
        ({"latency": -1}, "latency=-1"),
        ({"latency": (2, 1)}, "latency="),
        ({"latency": float("inf")}, "latency=inf"),
        ({"latency": 1, "rate": 1.1}, "rate=1.1"),
        ({"latency": 1, "max_duration": 0}, "max_duration=0"),
        ({"latency": 1, "max_duration": float("inf")}, "max_duration=inf"),
        ({"latency": 1, "after_items": -1}, "after_items=-1"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(")):
        Chaos(**wrong)
