"""What the server says of its services: what the breakers saw, and what a probe of our own finds."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import CircuitBreaker, Degradation, Pipeline
from mcp_server_langgraph.server import status
from mcp_server_langgraph.server.outputs import DegradedReason
from mcp_server_langgraph.server.probes import PROBE_SECONDS
from mcp_server_langgraph.server.status import Dependency, StatusBoard, is_degraded


class Service:
    """Answers probes after a hundredth of a second, or not at all."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        await asyncio.sleep(0.01)
        if not self.works:
            raise ConnectionError("down")


async def test_an_embedded_service_is_what_it_is() -> None:
    services = await StatusBoard([Dependency("redis", "in memory", embedded=True)]).services()
    assert services == {"redis": {"state": "embedded", "mode": "in memory"}}
    assert not is_degraded(services)


async def test_a_service_that_answers_and_whose_breakers_are_closed_is_up() -> None:
    pipeline = Pipeline("redis", CircuitBreaker("redis"))
    services = await StatusBoard([Dependency("redis", "sessions", "memory", Service().probe)]).services()
    assert services["redis"] == {
        "state": "up",
        "mode": "sessions",
        "breakers": {"redis": "closed"},
        "reachable": True,
    }
    assert pipeline.name == "redis"


async def test_an_unreachable_service_is_degraded_before_any_traffic_met_it() -> None:
    services = await StatusBoard(
        [Dependency("redis", "sessions", "memory", Service(works=False).probe)]
    ).services()
    assert services["redis"]["state"] == "degraded"
    assert services["redis"]["reachable"] is False
    assert services["redis"]["degraded_mode"] == "memory"
    assert is_degraded(services)


async def test_an_open_breaker_degrades_a_service_that_accepts_connections() -> None:
    breaker = CircuitBreaker("prometheus")
    pipeline = Pipeline("prometheus", breaker)
    board = StatusBoard([Dependency("prometheus", "metrics", "last results", Service().probe)])
    breaker.force_open()
    assert (await board.services())["prometheus"]["state"] == "degraded"
    breaker.reset()
    assert (await board.services())["prometheus"]["state"] == "up"
    assert pipeline.name == "prometheus"


async def test_redis_is_degraded_while_the_steps_of_turns_do_not_reach_it() -> None:
    breaker = CircuitBreaker("database")
    pipeline = Pipeline("database", breaker)
    board = StatusBoard([Dependency("redis", "sessions", "memory", Service().probe)])
    breaker.force_open()
    assert (await board.services())["redis"]["state"] == "degraded"
    breaker.reset()
    assert (await board.services())["redis"]["state"] == "up"
    assert pipeline.name == "database"


def test_what_stood_in_is_told_once_with_the_reason_that_came_first() -> None:
    notes = [
        Degradation("redis", "ConnectionError", "memory"),
        Degradation("redis", "CircuitOpen", "memory"),
        Degradation("redis", "CircuitOpen", "another instance"),
        Degradation("llm", "TimedOut", "memory", age=2.0),
    ]
    told = [(each.service, each.reason, each.source, each.age_seconds) for each in DegradedReason.of(notes)]
    assert told == [
        ("redis", "ConnectionError", "memory", None),
        ("redis", "CircuitOpen", "another instance", None),
        ("llm", "TimedOut", "memory", 2.0),
    ]


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


async def test_models_are_not_down_any_longer_once_one_may_be_asked_again() -> None:
    breaker = CircuitBreaker("llm.openai.a", fail_max=1, timeout=10)
    pipeline = Pipeline(breaker.label, breaker)
    board = StatusBoard([Dependency("llm", "openai", "an earlier answer")])

    async def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await pipeline.call(fail)
    states = [(await board.services())["llm"]["state"]]
    await asyncio.sleep(10)  # and nobody asks: whoever looks at readiness lets nobody in
    states.append((await board.services())["llm"]["state"])
    assert states == ["down", "degraded"]
    assert breaker.state == "open"
    with pytest.raises(ConnectionError):
        await pipeline.call(fail)
    assert (await board.services())["llm"]["state"] == "down"


async def test_a_probe_is_not_repeated_within_its_time_and_callers_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status.time, "monotonic", lambda: asyncio.get_running_loop().time())
    service = Service()
    board = StatusBoard([Dependency("redis", "sessions", "memory", service.probe)])
    await asyncio.gather(board.services(), board.services())
    service.works = False
    assert (await board.services())["redis"]["state"] == "up"
    assert service.probes == 1
    await asyncio.sleep(status.PROBE_EVERY)
    assert (await board.services())["redis"]["state"] == "degraded"


async def test_a_probe_that_never_comes_back_is_cut_and_no_circuit_of_the_service_stands_before_it() -> None:
    breaker = CircuitBreaker("redis")
    breaker.force_open()
    pipeline = Pipeline("redis", breaker)
    hangs = Dependency("redis", "sessions", "memory", lambda: asyncio.sleep(3600))
    works = Dependency("keycloak", "identities", "last keys", Service().probe)
    services = await StatusBoard([hangs, works]).services()
    assert services["redis"]["reachable"] is False
    assert services["keycloak"]["reachable"] is True
    assert asyncio.get_running_loop().time() == pytest.approx(PROBE_SECONDS)
    assert pipeline.name == "redis"
