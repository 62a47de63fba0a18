"""The official SDK's client against the running server over HTTP, in both protocol eras."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS, TextResourceContents

from tests.server.running import RunningServer, chat, text_of

Connect = Callable[[], Client]

TOOLS = {"agent_chat", "conversation_get", "conversation_search", "resilience_status", "sla_report"}


@pytest.fixture(params=["auto", "legacy"])
def connect(request: pytest.FixtureRequest, server: RunningServer) -> Connect:
    return lambda: Client(server.url, mode=request.param)


@pytest.mark.real_time
async def test_a_client_lists_tools_and_talks_and_is_remembered(connect: Connect) -> None:
    async with connect() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == TOOLS
        assert all(tool.output_schema and tool.description and tool.annotations for tool in tools.values())

        first = await chat(client, "My name is Ada.")
        second = await chat(client, "What is my name?", first["conversation_id"])
        assert "Ada" in second["answer"]
        assert second["conversation_id"] == first["conversation_id"]
        assert second["offline"] is True
        assert second["degraded"] is False

        used = await chat(client, "What is 17 * 23?", first["conversation_id"])
        assert "391" in used["answer"]
        assert used["tool_calls"] == [{"name": "calculator", "ok": True}]


@pytest.mark.real_time
async def test_a_conversation_can_be_read_and_found(connect: Connect) -> None:
    async with connect() as client:
        begun = await chat(client, "Tell me about narwhals: what is 2 + 2?")
        read = await client.call_tool("conversation_get", {"conversation_id": begun["conversation_id"]})
        assert read.structured_content is not None
        assert [said["role"] for said in read.structured_content["messages"]] == [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        found = await client.call_tool("conversation_search", {"query": "narwhals"})
        assert found.structured_content is not None
        assert begun["conversation_id"] in {
            hit["conversation_id"] for hit in found.structured_content["hits"]
        }


@pytest.mark.real_time
async def test_progress_is_told_while_a_call_runs(connect: Connect) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with connect() as client:
        await client.call_tool("agent_chat", {"message": "What is 2 + 2?"}, progress_callback=on_progress)
    assert [message for _, _, message in told] == [
        "asking the model",
        "running calculator",
        "asking the model",
    ]
    assert [progress for progress, _, _ in told] == [1, 2, 3]


@pytest.mark.real_time
async def test_resources_and_prompts_are_served(connect: Connect) -> None:
    async with connect() as client:
        resources = {str(resource.uri) for resource in (await client.list_resources()).resources}
        assert resources == {"settings://current", "resilience://breakers"}
        (content,) = (await client.read_resource("settings://current")).contents
        assert isinstance(content, TextResourceContents)
        assert json.loads(content.text)["server"]["llm_provider"] == "offline"

        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert prompts == {"continue_conversation", "diagnose_degradation", "explain_metric"}
        (message,) = (await client.get_prompt("explain_metric", {"query": "up"})).messages
        assert "`up`" in text_of(message.content)


@pytest.mark.real_time
async def test_an_unknown_conversation_is_a_clear_tool_error(connect: Connect) -> None:
    async with connect() as client:
        for tool, arguments in (
            ("agent_chat", {"message": "hello", "conversation_id": "nobody-has-this"}),
            ("conversation_get", {"conversation_id": "nobody-has-this"}),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert "unknown conversation 'nobody-has-this'" in text_of(result.content[0])


@pytest.mark.real_time
async def test_wrong_arguments_name_the_argument_and_do_not_trace(connect: Connect) -> None:
    async with connect() as client:
        for arguments in ({}, {"message": ""}, {"message": 3}, {"message": "x" * 40_000}):
            result = await client.call_tool("agent_chat", arguments)
            assert result.is_error
            assert "message" in text_of(result.content[0])
            assert "Traceback" not in text_of(result.content[0])


@pytest.mark.real_time
async def test_what_does_not_exist_is_a_protocol_error(connect: Connect) -> None:
    async with connect() as client:
        for call in (
            client.call_tool("no_such_tool", {}),
            client.get_prompt("no_such_prompt"),
            client.get_prompt("explain_metric", {}),
            client.read_resource("no://such"),
        ):
            with pytest.raises(MCPError) as refused:
                await call
            assert refused.value.error.code == INVALID_PARAMS


@pytest.mark.real_time
async def test_the_status_tool_tells_of_services_and_breakers(connect: Connect) -> None:
    async with connect() as client:
        await chat(client, "hello")
        status = (await client.call_tool("resilience_status", {})).structured_content
    assert status is not None
    assert status["status"] == "ok"
    assert set(status["services"]) == {"keycloak", "llm", "openfga", "prometheus", "redis"}
    assert status["breakers"]["llm.offline.offline"]["state"] == "closed"
    assert status["pipelines"]


@pytest.mark.real_time
async def test_tools_say_truly_what_they_do(server: RunningServer) -> None:
    async with Client(server.url) as client:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
    for name in TOOLS - {"agent_chat"}:
        hints = tools[name]
        assert hints is not None
        assert hints.read_only_hint
        assert hints.idempotent_hint
        assert hints.open_world_hint is False
    hints = tools["agent_chat"]
    assert hints is not None
    assert hints.read_only_hint is False
    assert hints.idempotent_hint is False
    assert hints.destructive_hint is False
    assert hints.open_world_hint is True
