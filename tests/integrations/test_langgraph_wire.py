"""Nodes and tools that ask a service over a socket, while it is dead, hangs, is slow, or has had enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import httpx2
import pytest
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, StateGraph

from mcp_server_langgraph.resilience import (
    Budget,
    CircuitBreaker,
    CircuitOpen,
    Pipeline,
    Retry,
    TimedOut,
    Timeout,
)
from mcp_server_langgraph.resilience.integrations.langgraph import resilient_node, resilient_tool
from tests.support.http_server import HttpServer, Request, Response

pytestmark = pytest.mark.real_time(limit=30)


class Service(HttpServer):
    async def handle(self, request: Request) -> Response:
        return Response("fine")


class State(TypedDict, total=False):
    said: str


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


async def ask(service: Service) -> str:
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=5) as client:
        reply = await client.get(service.url)
    return str(reply.raise_for_status().json())


def pipeline() -> Pipeline:
    retry = Retry(3, multiplier=0.01, budget=Budget.unlimited())
    return Pipeline("crm", retry, CircuitBreaker("crm", fail_max=6, timeout=60), Timeout(0.5))


def graph(service: Service) -> Any:
    @resilient_node(pipeline())
    async def node(state: State) -> State:
        return {"said": await ask(service)}

    building = StateGraph(State)
    building.add_node("node", node)
    building.add_edge(START, "node")
    building.add_edge("node", END)
    return building.compile()


def asking(service: Service) -> BaseTool:
    @resilient_tool(pipeline(), tell_model=True)
    @tool
    async def customer(number: str) -> str:
        """A customer."""
        return await ask(service)

    return customer


def hurt(service: Service, fault: str) -> None:
    if fault == "dead":
        service.stop()
    elif fault == "hangs":
        service.hang()
    elif fault == "slow":
        service.delay(5)
    else:
        service.fail(503)


@pytest.mark.parametrize("fault", ["dead", "hangs", "slow", "503"])
async def test_a_node_asks_three_times_a_run_and_not_at_all_once_its_service_is_known_as_down(
    service: Service, fault: str
) -> None:
    runs = graph(service)
    assert await runs.ainvoke({}) == {"said": "fine"}
    hurt(service, fault)
    for _ in range(2):
        with pytest.raises((OSError, httpx2.HTTPError)) as caught:
            await runs.ainvoke({})
        assert isinstance(caught.value, TimedOut) is (fault in ("hangs", "slow"))
    with pytest.raises(CircuitOpen):
        await runs.ainvoke({})
    assert service.count() == (1 if fault == "dead" else 1 + 2 * 3)


async def test_a_node_whose_service_has_had_enough_comes_back_when_it_was_told_to(service: Service) -> None:
    service.fail(429, times=2, retry_after="0")
    assert await graph(service).ainvoke({}) == {"said": "fine"}
    assert service.count() == 3


@pytest.mark.parametrize("fault", ["dead", "hangs", "slow", "503"])
async def test_the_model_is_told_that_a_tool_is_unavailable(service: Service, fault: str) -> None:
    customer = asking(service)
    assert await customer.ainvoke({"number": "7"}) == "fine"
    hurt(service, fault)
    for _ in range(3):
        assert "unavailable" in await customer.ainvoke({"number": "7"})
    assert service.count() == (1 if fault == "dead" else 1 + 2 * 3)


async def test_a_tool_whose_service_has_had_enough_comes_back_when_it_was_told_to(service: Service) -> None:
    service.fail(429, times=2, retry_after="0")
    assert await asking(service).ainvoke({"number": "7"}) == "fine"
    assert service.count() == 3
