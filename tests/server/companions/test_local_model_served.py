"""`serve --local-model`: the agent answers with nothing but this machine, and says what answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client

from tests.llm.models import KEY
from tests.server.running import RunningServer, chat, running_server
from tests.support.components import require
from tests.support.ports import HOST, free_port


@pytest.fixture(params=["alone", "behind a provider that cannot be reached"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    require("local-model")
    variables = {}
    if request.param != "alone":
        nowhere = f"http://{HOST}:{free_port()}/v1"
        variables = {"LLM_PROVIDER": "openai", "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": nowhere}
    with running_server(tmp_path, "--local-model", **variables) as running:
        yield running


@pytest.mark.real_time(limit=300)
async def test_the_agent_answers_without_a_network_and_is_marked_as_degraded(server: RunningServer) -> None:
    async with Client(server.url, read_timeout_seconds=250) as client:
        said = await chat(client, "What is the capital of France?")
    assert "Paris" in said["answer"]
    assert said["model"] == "local:smollm2"
    assert said["degraded"] is True
    assert {(reason["service"], reason["source"]) for reason in said["degraded_reasons"]} == {
        ("llm", "local:smollm2")
    }
    assert said["offline"] is False
    assert said["tool_calls"] == []
