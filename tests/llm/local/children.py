"""Programs in the place of the local model's child process."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from mcp_server_langgraph.llm._local.server import LocalServer

GOOD: Final = """
import json, sys
asked = json.loads(sys.stdin.readline())
print(json.dumps({"url": f"http://127.0.0.1:1/{asked['weights']}"}), flush=True)
sys.stdin.read()
"""
"""Says where it is, as the real one does, and ends with its stdin."""

DEAF: Final = GOOD.replace("sys.stdin.read()", "import time; time.sleep(100)")
"""Does not end."""

_LISTENS: Final = """
import json, socket, sys
json.loads(sys.stdin.readline())
listener = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"url": "http://127.0.0.1:%d" % listener.getsockname()[1]}), flush=True)
ANSWER
sys.stdin.read()
"""
SILENT: Final = _LISTENS.replace("ANSWER", "")
"""The kernel accepts connections for it, and it answers none."""

TALKING: Final = _LISTENS.replace(
    "ANSWER",
    """
import threading
def answer():
    while True:
        peer, _ = listener.accept()
        while b"}" not in peer.recv(1000):
            pass
        peer.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        peer.close()
threading.Thread(target=answer, daemon=True).start()
""",
)
"""Answers whatever it is asked."""


@asynccontextmanager
async def server(program: str) -> AsyncGenerator[LocalServer, None]:
    running = LocalServer({"weights": "w"}, (sys.executable, "-c", program))
    try:
        yield running
    finally:
        await running.aclose()
        assert running.pid is None
