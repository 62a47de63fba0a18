"""Only what is used is loaded."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("mcp_server_langgraph.auth.session", ["redis", "httpx2", "jwt", "cryptography"]),
        ("mcp_server_langgraph.auth.keycloak", ["redis", "requests", "httpx", "aiohttp"]),
        ("mcp_server_langgraph.auth.openfga", ["redis", "jwt", "openfga_sdk", "aiohttp"]),
    ],
)
def test_a_service_loads_none_of_the_others_packages(module: str, unwanted: list[str]) -> None:
    code = f"import sys, {module}; print(*[name for name in {unwanted!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
