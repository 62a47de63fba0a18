"""Running servers of the Redis protocol and of OpenFGA's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_server_langgraph.resilience import registry
from tests.auth.openfga_checks import DOCUMENT
from tests.support.keycloak_process import KeycloakProcess
from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_server import OpenFGAServer
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy


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


@pytest.fixture
def proxy(valkey: RedisServer) -> Iterator[TcpProxy]:
    """What stands between a client and Valkey, and can be cut."""
    with TcpProxy(valkey.port) as running:
        yield running


@pytest.fixture
def quick_retries(fresh_registry: None) -> None:
    """Attempts follow each other at once."""
    registry.reload({"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})


@pytest.fixture
def openfga(quick_retries: None) -> Iterator[OpenFGAServer]:
    """A stand-in for OpenFGA that knows one viewer of one document."""
    with OpenFGAServer() as running:
        running.grant("user:ann", "viewer", DOCUMENT)
        yield running


@pytest.fixture
def keycloak(quick_retries: None) -> Iterator[KeycloakServer]:
    """A stand-in for Keycloak."""
    with KeycloakServer() as running:
        yield running


@pytest.fixture(scope="session")
def keycloak_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakProcess]:
    """Keycloak's own server, slow to start: one for all tests here."""
    with KeycloakProcess(Path(tmp_path_factory.mktemp("keycloak"))) as running:
        running.set_token_life(300)
        running.admin("PUT", "", {"revokeRefreshToken": True, "refreshTokenMaxReuse": 0})
        yield running


@pytest.fixture
def unhurried(fresh_registry: None) -> None:
    """Attempts may take as long as they do at a Keycloak that was just started on a busy machine."""
    registry.reload({"KEYCLOAK_ATTEMPT_TIMEOUT": "10", "KEYCLOAK_AUTH_TIMEOUT": "30"})
