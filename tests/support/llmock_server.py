"""llmock (PyPI): an emulator of the providers' APIs, with faults on demand, as a process of its own."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import HOST, free_port, wait_until_accepting

__all__ = ["LlmockServer"]


class LlmockServer:
    """Runs `llmock serve` on a free port. The methods block, for less than two minutes."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "llmock.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def base_url(self, provider: str) -> str:
        """Where that provider's API is, as its own SDK is told it."""
        path = {"anthropic": "/anthropic", "google": "/gemini"}.get(provider, "/v1")
        return f"http://{HOST}:{self.port}{path}"

    def __enter__(self) -> "LlmockServer":
        command = [
            sys.executable,
            "-m",
            "llmock.cli",
            "serve",
            "--port",
            str(self.port),
            "--log-level",
            "warning",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until_accepting(self.port, within=120)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)

    def script(self, *behaviors: dict[str, Any]) -> None:
        """Queue behaviours: `{"type": "fail", "status": 429, "retry_after": 1, "times": None}` and the like."""
        self._admin("POST", "scenario", {"behaviors": list(behaviors)})

    def reset(self) -> None:
        """Forget the requests seen and the behaviours queued."""
        self._admin("POST", "reset", {})

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """The requests that arrived, oldest first, those whose path contains `path`."""
        seen: list[dict[str, Any]] = self._admin("GET", "requests")["requests"]
        return [request for request in seen if path in request["path"]]

    def verdict(self) -> dict[str, Any]:
        """What it thinks of its client's manners: `passed`, and the findings."""
        verdict: dict[str, Any] = self._admin("GET", "verdict")
        return verdict

    def _admin(self, method: str, name: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/_llmock/{name}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        give_up = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except ConnectionError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)
