"""When the server says that it is ready, and how the agent is built behind its back."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from mcp_server_langgraph.agent.runner import Agent
from mcp_server_langgraph.auth.session import InMemorySessionStore
from mcp_server_langgraph.llm.offline import OfflineChatModel
from mcp_server_langgraph.resilience import CircuitBreaker, Pipeline
from mcp_server_langgraph.server import main
from mcp_server_langgraph.server.app import transport_security
from mcp_server_langgraph.server.health import _readiness
from mcp_server_langgraph.server.lifecycle import Lifecycle
from mcp_server_langgraph.server.services import AgentLoader, Services
from mcp_server_langgraph.server.status import Dependency, StatusBoard
from mcp_server_langgraph.settings import Settings


def services_with(loader: AgentLoader, *dependencies: Dependency) -> Services:
    board = StatusBoard(dependencies or [Dependency("llm", "offline", embedded=True)])
    return Services(Settings.from_env({}), InMemorySessionStore(), loader, board)


async def build() -> Agent:
    await asyncio.sleep(2)
    return Agent(OfflineChatModel(), [], InMemorySessionStore(), model_name="offline")


async def status_of(services: Services, lifecycle: Lifecycle | None = None) -> Any:
    return (await _readiness(services, lifecycle or Lifecycle()))["status"]


async def test_until_the_agent_is_built_the_server_is_not_ready() -> None:
    services = services_with(AgentLoader(build, []))
    assert await status_of(services) == "not ready"
    await services.agent()
    assert await status_of(services) == "ready"


async def test_what_is_done_when_all_is_loaded_is_done_before_anybody_is_served() -> None:
    services = services_with(AgentLoader(build, []))
    seen: list[str] = []
    services.loader.loaded = lambda: seen.append(services.loader.state)
    await services.agent()
    await services.agent()
    assert seen == ["starting"]


async def test_a_server_process_freezes_what_it_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    served = asyncio.Event()

    async def serve(_server: Any, services: Services, *_: Any) -> None:
        frozen = gc.get_freeze_count()
        await services.agent()
        assert gc.get_freeze_count() > frozen + 10_000
        served.set()

    monkeypatch.setattr(main, "serve_stdio", serve)
    try:
        await main._serve(Settings.from_env({}), "stdio", dict)
    finally:
        gc.unfreeze()
    assert served.is_set()


async def test_an_agent_that_cannot_be_built_is_told_and_never_ready() -> None:
    async def fail() -> Agent:
        raise ImportError("no such package")

    services = services_with(AgentLoader(fail, []))
    for _ in range(2):
        with pytest.raises(ToolError, match="could not be started"):
            await services.agent()
    assert services.loader.state == "failed"
    assert await status_of(services) == "not ready"


async def test_an_agent_that_could_not_be_built_is_told_by_the_log_alone() -> None:
    async def fail() -> Agent:
        raise ImportError("no such package")

    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    loader = AgentLoader(fail, [])
    loader.start()
    await asyncio.sleep(1)
    await loader.aclose()
    del loader
    gc.collect()
    assert told == []


async def test_a_caller_that_goes_away_does_not_stop_the_building() -> None:
    services = services_with(AgentLoader(build, []))
    caller = asyncio.create_task(services.agent())
    await asyncio.sleep(1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await services.agent()


async def test_closing_ends_the_building() -> None:
    services = services_with(AgentLoader(build, []))
    services.loader.start()
    await asyncio.sleep(1)
    await services.aclose()
    assert services.loader.state == "failed"


async def test_without_any_model_the_server_is_not_ready() -> None:
    breaker = CircuitBreaker("llm.openai.x")
    pipeline = Pipeline("llm.openai.x", breaker)
    services = services_with(AgentLoader(build, []), Dependency("llm", "openai", "fallback models"))
    await services.agent()
    assert await status_of(services) == "ready"
    breaker.force_open()
    assert await status_of(services) == "not ready"
    assert pipeline.name == breaker.label


async def test_while_draining_the_server_is_not_ready() -> None:
    services, lifecycle = services_with(AgentLoader(build, [])), Lifecycle()
    await services.agent()
    await lifecycle.drain(1)
    assert await status_of(services, lifecycle) == "draining"


def test_hosts_are_accepted_by_loopback_setting_and_public_url() -> None:
    settings = Settings.from_env(
        {"ALLOWED_HOSTS": "a.example,b.example:8443", "PUBLIC_URL": "https://c.example/agent"}
    )
    hosts = set(transport_security(settings).allowed_hosts)
    assert {"localhost", "localhost:*", "a.example", "a.example:*", "b.example:8443", "c.example"} <= hosts
    assert "b.example" not in hosts
    assert "https://c.example" in transport_security(settings).allowed_origins


@pytest.mark.parametrize(
    ("facts", "state", "ready"),
    [
        ({}, "up", "ready"),
        ({"problem": "the model lost a relation", "unusable": False}, "degraded", "degraded"),
        ({"problem": "no such store", "unusable": True}, "down", "not ready"),
    ],
)
async def test_a_service_with_a_problem_degrades_and_one_that_never_fitted_keeps_the_server_from_serving(
    facts: dict[str, Any], state: str, ready: str
) -> None:
    openfga = Dependency("openfga", "permissions", "denied", facts=lambda: facts)
    services = services_with(AgentLoader(build, []), Dependency("llm", "offline", embedded=True), openfga)
    await services.agent()
    view = (await services.board.services())["openfga"]
    assert (view["state"], view.get("problem")) == (state, facts.get("problem"))
    assert await status_of(services) == ready
