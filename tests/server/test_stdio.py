"""The server over stdin and stdout: a client starts it as a subprocess."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp_types import INVALID_PARAMS

from tests.server.running import COMMAND, UNHURRIED, chat, clean_environment, stdio_server


@pytest.mark.real_time(limit=240.0)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_talks_uses_a_tool_and_sees_progress(mode: str) -> None:
    told: list[str | None] = []

    async def on_progress(_progress: float, _total: float | None, message: str | None) -> None:
        told.append(message)

    async with Client(stdio_server(), mode=mode) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= {"agent_chat", "conversation_get"}
        first = await chat(client, "My name is Ada.")
        assert "Ada" in (await chat(client, "What is my name?", first["conversation_id"]))["answer"]
        used = await client.call_tool(
            "agent_chat", {"message": "What is 2 + 2?"}, progress_callback=on_progress
        )
        assert used.structured_content is not None
        assert used.structured_content["tool_calls"] == [{"name": "calculator", "ok": True}]
        assert told == ["asking the model", "running calculator", "asking the model"]
        assert (await client.read_resource("resilience://breakers")).contents
        assert (await client.get_prompt("diagnose_degradation")).messages
        with pytest.raises(MCPError) as refused:
            await client.call_tool("no_such_tool", {})
        assert refused.value.error.code == INVALID_PARAMS


@pytest.mark.real_time(limit=240.0)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_stops_the_agent(mode: str) -> None:
    async with Client(stdio_server(LLM_OFFLINE_DELAY_SECONDS="200"), mode=mode) as client:
        begun = asyncio.Event()

        async def on_progress(_progress: float, _total: float | None, _message: str | None) -> None:
            begun.set()

        call = asyncio.create_task(
            client.call_tool("agent_chat", {"message": "narwhals"}, progress_callback=on_progress)
        )
        await begun.wait()
        async with asyncio.timeout(40):
            while await in_flight(client) != 1:
                pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(40):
            while await in_flight(client):
                pass
        found = await client.call_tool("conversation_search", {"query": "narwhals"})
        assert found.structured_content is not None
        assert found.structured_content["hits"] == []


async def in_flight(client: Client) -> int:
    """Calls to the model that hold a place now."""
    status = (await client.call_tool("resilience_status", {})).structured_content
    assert status is not None
    guards = [pipeline["bulkhead"] for pipeline in status["pipelines"] if "bulkhead" in pipeline]
    return max(guard["active"] for guard in guards)


def start(folder: Path, **variables: str) -> subprocess.Popen[bytes]:
    with (folder / "stderr").open("wb") as stderr:
        return subprocess.Popen(
            [*COMMAND, "--transport", "stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=clean_environment(UNHURRIED | variables),
        )


def send(server: subprocess.Popen[bytes], **message: object) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    server.stdin.flush()


def receive(server: subprocess.Popen[bytes]) -> dict[str, object]:
    assert server.stdout is not None
    message: dict[str, object] = json.loads(server.stdout.readline())
    return message


def initialize(server: subprocess.Popen[bytes]) -> None:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    send(server, id=0, method="initialize", params=params)
    assert receive(server)["id"] == 0
    send(server, method="notifications/initialized")


def test_sigterm_finishes_the_call_in_flight_and_ends_with_code_0(tmp_path: Path) -> None:
    server = start(tmp_path, LLM_OFFLINE_DELAY_SECONDS="1")
    try:
        initialize(server)
        call = {"name": "agent_chat", "arguments": {"message": "hello"}, "_meta": {"progressToken": 7}}
        send(server, id=1, method="tools/call", params=call)
        assert receive(server)["method"] == "notifications/progress"
        server.send_signal(signal.SIGTERM)
        answer = receive(server)
        assert answer["id"] == 1
        assert "result" in answer
        assert server.wait(timeout=60) == 0
    finally:
        close(server)


def test_garbage_is_answered_and_the_end_of_stdin_ends_the_server(tmp_path: Path) -> None:
    server = start(tmp_path)
    try:
        initialize(server)
        assert server.stdin is not None
        server.stdin.write(b"this is not JSON\n")
        send(server, id=5, method="no/such/method")
        answer = receive(server)
        if answer.get("id") != 5:
            answer = receive(server)
        assert isinstance(answer["error"], dict)
        assert answer["error"]["code"] == -32601
        server.stdin.close()
        assert server.wait(timeout=60) == 0
        for line in (tmp_path / "stderr").read_text().splitlines():
            assert json.loads(line)["level"] != "ERROR"
    finally:
        close(server)


def close(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()
    for stream in (server.stdin, server.stdout):
        if stream is not None:
            stream.close()
