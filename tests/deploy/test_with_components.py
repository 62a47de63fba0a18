"""`scripts/serve --with-components`, for real: the server between Redis, Keycloak, OpenFGA and Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from deploy.local.ask import ask, token_of
from tests.docs.pages import ROOT
from tests.server.running import UNHURRIED, clean_environment
from tests.support.components import require
from tests.support.ports import accepts, free_port

NAMES = {"redis", "openfga", "keycloak", "prometheus", "server"}


class Running:
    """All of it, as the command starts it. Where each service is, the command's table says."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "deploy.local", "--port", str(self.port), "--dir", str(folder)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**clean_environment(UNHURRIED), "PYTHONPATH": path}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.where: dict[str, str] = {}
        self.pids: dict[str, int] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if words and words[0] in NAMES:
                self.where[words[0]], self.pids[words[0]] = words[1], int(words[3])
            if "ask.py" in line:
                self.command = line
                return
        raise RuntimeError(f"ended with {self.process.wait()}; see {folder}")

    def stop(self) -> int:
        with self.process:
            self.process.send_signal(signal.SIGTERM)
        return self.process.returncode


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    for name in ("keycloak", "openfga", "prometheus", "redis"):
        require(name)
    everything = Running(tmp_path_factory.mktemp("components"))
    yield everything
    everything.stop()


@pytest.mark.real_time(limit=240)
async def test_who_has_a_tuple_chats_and_who_has_none_is_denied(running: Running) -> None:
    assert set(running.where) == NAMES
    server, keycloak = f"{running.where['server']}/mcp", running.where["keycloak"]
    alice = await asyncio.to_thread(token_of, keycloak, "alice")
    assert "42" in await ask(server, alice, "What is 6 * 7?")
    bob = await asyncio.to_thread(token_of, keycloak, "bob")
    assert "permission denied: can_chat on service:agent" in await ask(server, bob, "What is 6 * 7?")


@pytest.mark.real_time(limit=240)
async def test_the_status_says_that_all_services_are_up(running: Running) -> None:
    token = await asyncio.to_thread(token_of, running.where["keycloak"], "alice")
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60) as http:
        transport = streamable_http_client(f"{running.where['server']}/mcp", http_client=http)
        async with Client(transport) as client, asyncio.timeout(200):
            # A probe has half a second, which a machine with all of this on it does not always give it.
            while (states := await _states(client)) != dict.fromkeys(NAMES - {"server"}, "up"):
                print(states)  # what is shown where this waits in vain
                await asyncio.sleep(1)


async def _states(client: Client) -> dict[str, str]:
    status = (await client.call_tool("resilience_status", {})).structured_content
    assert status is not None
    return {name: state["state"] for name, state in status["services"].items() if name != "llm"}


@pytest.mark.real_time(limit=240)
async def test_prometheus_reads_the_servers_metrics_under_the_rules(running: Running) -> None:
    prometheus = running.where["prometheus"]
    async with asyncio.timeout(200):
        asked = "query?" + urllib.parse.urlencode({"query": 'up{job="mcp"}'})
        # The first scrape may have come before the server listened.
        while [up["value"][1] for up in (await asyncio.to_thread(told, prometheus, asked))["result"]] != [
            "1"
        ]:
            await asyncio.sleep(0.5)
    groups = (await asyncio.to_thread(told, prometheus, "rules"))["groups"]
    assert "McpServerDown" in {rule["name"] for group in groups for rule in group["rules"]}


def told(prometheus: str, asked: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{prometheus}/api/v1/{asked}", timeout=60) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def test_the_command_that_it_shows_can_be_copied(running: Running) -> None:
    done = subprocess.run(
        running.command, shell=True, capture_output=True, text=True, check=False, timeout=300
    )
    assert "42" in done.stdout, done.stderr


@pytest.mark.real_time(limit=240)
async def test_the_server_goes_on_without_a_service_that_was_killed(running: Running) -> None:
    server, keycloak = f"{running.where['server']}/mcp", running.where["keycloak"]
    alice = await asyncio.to_thread(token_of, keycloak, "alice")
    await ask(server, alice, "What is 6 * 7?")
    os.kill(running.pids["openfga"], signal.SIGKILL)
    while _exists(running.pids["openfga"]):  # until the command has seen that it ended
        await asyncio.sleep(0.05)
    assert "42" in await ask(server, alice, "What is 6 * 7?")
    assert running.process.poll() is None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_told_to_stop_it_stops_all_that_it_started(running: Running) -> None:
    alive = [where for name, where in running.where.items() if name != "openfga"]
    ports = [int(urllib.parse.urlsplit(where).port or 0) for where in alive]
    assert all(accepts(port) for port in ports)
    assert running.stop() == 0
    assert [port for port in ports if accepts(port)] == []


def test_what_is_missing_is_told_with_how_to_get_it(tmp_path: Path) -> None:
    environment = {
        **clean_environment({}),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "COMPONENTS_DIR": str(tmp_path),
        "PATH": str(tmp_path),
    }
    command = [sys.executable, "-m", "deploy.local", "--dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 1
    for name in ("openfga", "keycloak", "prometheus"):
        assert f"scripts/components {name}" in done.stderr
