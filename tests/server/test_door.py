"""Who is let in at the server's door, under which deadline, and what the others are told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from mcp_server_langgraph.resilience import (
    AdaptiveLimit,
    BulkheadFull,
    Criticality,
    Shed,
    config,
    current_criticality,
    registry,
    remaining,
)
from mcp_server_langgraph.server.door import BURST, CALLS_PER_SECOND, Door
from mcp_server_langgraph.server.identity import Caller, CallerUser


def over_http(subject: str | None = None, **headers: str) -> ServerRequestContext[Any, Any]:
    """A tool call of that caller; None: nobody was asked who calls. Underscores in header names are hyphens."""
    user = None if subject is None else CallerUser(Caller(subject, "keycloak"), "https://issuer")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _context(SimpleNamespace(scope={"user": user}, headers=named))


def over_stdio(**meta: object) -> ServerRequestContext[Any, Any]:
    named = {name.replace("_", "-"): value for name, value in meta.items()}
    return _context(None, {"name": "agent_chat", "_meta": named})


def _context(request: object, params: dict[str, Any] | None = None) -> ServerRequestContext[Any, Any]:
    return ServerRequestContext(
        session=None,  # type: ignore[arg-type]
        lifespan_context=None,
        protocol_version="2025-11-25",
        method="tools/call",
        params=params,
        request_id=1,
        request=request,
    )


async def answer() -> str:
    return "answer"


async def refused(door: Door, ctx: ServerRequestContext[Any, Any]) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await door.let_in(ctx, answer)
    return caught.value


async def test_a_call_is_let_in() -> None:
    assert await Door().let_in(over_http("ann"), answer) == "answer"


async def test_a_caller_that_calls_without_end_is_told_when_to_come_again_and_others_are_not_hurt() -> None:
    door = Door()
    for _ in range(int(BURST)):
        await door.let_in(over_http("greedy"), answer)
    error = (await refused(door, over_http("greedy"))).error
    assert error.code == 429
    assert error.data["retryAfterMs"] == pytest.approx(1000 / CALLS_PER_SECOND, abs=1)
    assert await door.let_in(over_http("modest"), answer) == "answer"
    await asyncio.sleep(1 / CALLS_PER_SECOND)
    assert await door.let_in(over_http("greedy"), answer) == "answer"


async def test_callers_whom_nobody_asked_for_a_name_are_limited_too() -> None:
    door = Door()
    for _ in range(int(BURST)):
        await door.let_in(over_http(), answer)
    assert (await refused(door, over_stdio())).error.code == 429


async def test_an_operator_sets_the_rate_of_each_caller() -> None:
    config.install(config.Settings({"MCP_RATE_LIMIT_PERMITS": "1", "MCP_RATE_LIMIT_BURST": "1"}))
    door = Door()
    await door.let_in(over_http("ann"), answer)
    assert (await refused(door, over_http("ann"))).error.code == 429


@pytest.mark.parametrize("context", [over_http, over_stdio])
async def test_a_caller_s_deadline_and_criticality_hold_inside(context: Any) -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.extend((remaining(), current_criticality()))

    await Door().let_in(context(x_request_timeout_ms="1500", x_request_criticality="sheddable"), work)
    assert seen == [1.5, Criticality.SHEDDABLE]


async def test_nobody_raises_himself_above_critical() -> None:
    seen: list[Criticality] = []

    async def work() -> None:
        seen.append(current_criticality())

    await Door().let_in(over_http(x_request_criticality="critical_plus"), work)
    assert seen == [Criticality.CRITICAL]


async def test_what_comes_too_late_is_dropped_and_counted() -> None:
    error = (await refused(Door(), over_http(x_request_timeout_ms="0"))).error
    assert (error.code, error.data) == (504, {"retryable": False})
    [metric] = [metric for metric in registry.metrics() if metric.name == "deadline_expired_total"]
    assert metric.samples == {("mcp",): 1}


async def test_what_is_not_done_by_the_caller_s_deadline_is_cut() -> None:
    with pytest.raises(MCPError) as caught:
        await Door().let_in(over_http(x_request_timeout_ms="200"), lambda: asyncio.sleep(9))
    assert caught.value.error.code == 504
    assert asyncio.get_running_loop().time() == pytest.approx(0.2)


async def test_while_this_process_is_late_what_matters_least_is_shed() -> None:
    door = Door()
    [shed] = [policy for policy in door.pipeline.policies if isinstance(policy, Shed)]
    await door.let_in(over_http("ann"), answer)
    shed.door.threshold = 1.0
    error = (await refused(door, over_http("ann", x_request_criticality="sheddable"))).error
    assert (error.code, error.data) == (503, {"retryable": True, "retryAfterMs": 1000})
    assert await door.let_in(over_http("ann"), answer) == "answer"


async def test_no_more_calls_at_once_than_end_well() -> None:
    config.install(config.Settings({"MCP_ADAPTIVE_INITIAL_LIMIT": "1", "MCP_ADAPTIVE_MIN_LIMIT": "1"}))
    door = Door()
    [limit] = [policy for policy in door.pipeline.policies if isinstance(policy, AdaptiveLimit)]
    first = asyncio.create_task(door.let_in(over_http("ann"), lambda: asyncio.sleep(9)))
    await asyncio.sleep(0)
    assert limit.snapshot().active == 1
    error = (await refused(door, over_http("ben"))).error
    assert error.code == 503
    await first


async def test_a_refusal_further_in_is_not_the_door_s() -> None:
    async def full() -> None:
        raise BulkheadFull("redis")

    with pytest.raises(BulkheadFull):
        await Door().let_in(over_http("ann"), full)
