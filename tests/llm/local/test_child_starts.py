"""How the child process of the local model is started, and how often that is tried."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit

import pytest

from mcp_server_langgraph.llm._local import restarts
from mcp_server_langgraph.llm._local.server import LocalServer, LocalServerDown
from tests.llm.local.llama import Llama

STARTS = """
import sys
sys.stdin.readline()
print('{"url": "http://127.0.0.1:1"}', flush=True)
sys.stdin.read()
"""


def server(program: str) -> LocalServer:
    return LocalServer({}, (sys.executable, "-c", program))


@pytest.mark.real_time
async def test_one_that_cannot_start_is_not_tried_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "FIRST_WAIT", restarts.LONGEST_WAIT)
    broken = server("")
    for _ in range(2):
        with pytest.raises(LocalServerDown, match="its process ended"):
            await broken.endpoint()
    with pytest.raises(LocalServerDown, match="started again in"):
        await broken.endpoint()
    await broken.aclose()


@pytest.mark.real_time
async def test_a_signal_to_the_servers_own_group_does_not_reach_the_child() -> None:
    running = server(STARTS)
    try:
        await running.endpoint()
        assert running.pid is not None
        assert os.getsid(running.pid) == os.getpgid(running.pid) == running.pid
    finally:
        await running.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has all of 127.0.0.0/8 for itself")
def test_nobody_outside_of_this_machine_reaches_it(llama: Llama) -> None:
    port = urlsplit(llama.url).port
    socket.create_connection(("127.0.0.1", port), timeout=30).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=30)
