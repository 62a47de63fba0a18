"""What the server says of its services: what the breakers saw, and what a probe of our own finds."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline
from mcp_server_langgraph.server import status
from mcp_server_langgraph.server.status import Dependency, StatusBoard, is_degraded


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Which hosts answer; each probe takes a hundredth of a second."""
    hosts = {"up.example": True, "down.example": False}

    async def connects(address: tuple[str, int]) -> bool:
        await asyncio.sleep(0.01)
        return hosts[address[0]]

    monkeypatch.setattr(status, "_connects", connects)
    return hosts


async def test_an_embedded_service_is_what_it_is() -> None:
    services = await StatusBoard([Dependency("redis", "in memory", embedded=True)]).services()
    assert services == {"redis": {"state": "embedded", "mode": "in memory"}}
    assert not is_degraded(services)


async def test_a_service_that_answers_and_whose_breakers_are_closed_is_up(reachable: dict[str, bool]) -> None:
    pipeline = Pipeline("redis", CircuitBreaker("redis"))
    services = await StatusBoard([Dependency("redis", "sessions", "memory", ("up.example", 1))]).services()
    assert services["redis"] == {
        "state": "up",
        "mode": "sessions",
        "breakers": {"redis": "closed"},
        "reachable": True,
    }
    assert pipeline.name == "redis"


async def test_an_unreachable_service_is_degraded_before_any_traffic_met_it(
    reachable: dict[str, bool],
) -> None:
    services = await StatusBoard([Dependency("redis", "sessions", "memory", ("down.example", 1))]).services()
    assert services["redis"]["state"] == "degraded"
    assert services["redis"]["reachable"] is False
    assert services["redis"]["degraded_mode"] == "memory"
    assert is_degraded(services)


async def test_an_open_breaker_degrades_a_service_that_accepts_connections(
    reachable: dict[str, bool],
) -> None:
    breaker = CircuitBreaker("prometheus")
    pipeline = Pipeline("prometheus", breaker)
    board = StatusBoard([Dependency("prometheus", "metrics", "last results", ("up.example", 1))])
    breaker.force_open()
    assert (await board.services())["prometheus"]["state"] == "degraded"
    breaker.reset()
    assert (await board.services())["prometheus"]["state"] == "up"
    assert pipeline.name == "prometheus"


async def test_models_are_down_only_when_every_circuit_is_open() -> None:
    breakers = [CircuitBreaker(f"llm.openai.{name}") for name in ("a", "b")]
    pipelines = [Pipeline(breaker.label, breaker) for breaker in breakers]
    board = StatusBoard([Dependency("llm", "openai", "fallback models")])
    states = []
    for breaker in breakers:
        states.append((await board.services())["llm"]["state"])
        breaker.force_open()
    states.append((await board.services())["llm"]["state"])
    assert states == ["up", "degraded", "down"]
    assert len(pipelines) == 2


async def test_a_probe_is_not_repeated_within_its_time_and_callers_share_it(
    reachable: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status.time, "monotonic", lambda: asyncio.get_running_loop().time())
    board = StatusBoard([Dependency("redis", "sessions", "memory", ("up.example", 1))])
    await asyncio.gather(board.services(), board.services())
    reachable["up.example"] = False
    assert (await board.services())["redis"]["state"] == "up"
    await asyncio.sleep(status.PROBE_EVERY)
    assert (await board.services())["redis"]["state"] == "degraded"
