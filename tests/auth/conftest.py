"""Running servers of the Redis protocol."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer


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
