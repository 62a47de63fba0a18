"""Each test has settings, breakers and pipelines of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server_langgraph.resilience import registry
from tests.support.redis_server import RedisServer


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A running server of the Redis protocol: Valkey, and Redis itself where it is installed."""
    with RedisServer(tmp_path / "data", request.param) as running:
        yield running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Valkey, for tests that need no second opinion."""
    with RedisServer(tmp_path / "data", "valkey") as running:
        yield running
