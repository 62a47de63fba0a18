"""Starts the server as a process of its own, the way its users do, and waits on what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent

from tests.support.ports import HOST, free_port

__all__ = [
    "UNHURRIED",
    "RunningServer",
    "chat",
    "chat_until_whole",
    "eventually",
    "running_server",
    "stdio_server",
    "text_of",
]

COMMAND = [sys.executable, "-m", "mcp_server_langgraph.cli", "serve"]
START_WITHIN = 200.0
"""Seconds; it takes two or three of a processor, which may be shared with many other tests."""
UNHURRIED = {
    "MCP_SHED_MAX_LAG": "60",
    **{
        f"{service}_{name}": "60"
        for service in ("KEYCLOAK", "OPENFGA", "REDIS", "DATABASE")
        for name in ("ATTEMPT_TIMEOUT", "TIMEOUT")
    },
}
"""Settings of a server on a machine that may be busy: to be late is no reason to refuse a call or to give a service up.
What refuses connections, or ends them, fails as fast as ever.
"""
_OURS = ("LLM_", "REDIS_", "KEYCLOAK_", "OPENFGA_", "PROMETHEUS_", "LOG_", "CIRCUIT_", "RETRY_", "DRAIN_")


def clean_environment(variables: dict[str, str]) -> dict[str, str]:
    """This process's environment without settings of the server, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**inherited, **variables}


class RunningServer:
    """A server process over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.base = f"http://{HOST}:{port}"
        self.url = f"{self.base}/mcp"
        self._log = log

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.base + path, timeout=30)

    def ready(self) -> dict[str, Any]:
        """What readiness says, whatever its status code."""
        body: dict[str, Any] = self.get("/health/ready").json()
        return body

    def log(self) -> list[dict[str, Any]]:
        """The log lines so far; every line is JSON. The last may be half written."""
        return [json.loads(line) for line in self._log.read_text().rpartition("\n")[0].splitlines()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_until_started(self) -> None:
        give_up = time.monotonic() + START_WITHIN
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"the server ended with {self.process.returncode}: {self._log.read_text()}"
                )
            with contextlib.suppress(httpx2.TransportError):
                if self.get("/health/startup").status_code == 200:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"the server did not start within {START_WITHIN} s: {self._log.read_text()}")


@contextlib.contextmanager
def running_server(folder: Path, *arguments: str, **variables: str) -> Iterator[RunningServer]:
    """A server on a free port with these variables, `UNHURRIED` else; started, and at last stopped by its pid."""
    port = free_port()
    log = folder / f"server-{port}.log"
    command = [*COMMAND, "--port", str(port), *arguments]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr, env=clean_environment(UNHURRIED | variables))
    server = RunningServer(process, port, log)
    try:
        server.wait_until_started()
        yield server
    finally:
        process.kill()
        process.wait()


def stdio_server(**variables: str) -> StdioServerParameters:
    """How a client starts the server over stdio."""
    arguments = [*COMMAND[1:], "--transport", "stdio"]
    return StdioServerParameters(
        command=COMMAND[0], args=arguments, env=clean_environment(UNHURRIED | variables)
    )


async def eventually(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Wait until the condition, which may block, holds. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


async def chat(client: Client, message: str, conversation_id: str | None = None) -> dict[str, Any]:
    """The structured answer of `agent_chat`."""
    arguments = {"message": message} | ({"conversation_id": conversation_id} if conversation_id else {})
    result = await client.call_tool("agent_chat", arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def chat_until_whole(
    client: Client, message: str, conversation_id: str | None = None
) -> dict[str, Any]:
    """The first answer of `agent_chat` that lacks nothing: on a busy machine a service that is well may come late."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(AssertionError):
                answer = await chat(client, message, conversation_id)
                if not answer["degraded"]:
                    return answer


def text_of(content: Any) -> str:
    assert isinstance(content, TextContent)
    return content.text
