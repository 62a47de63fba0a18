"""A stand-in for Keycloak that misbehaves on demand."""

from collections.abc import Iterator

import pytest

from mcp_server_langgraph.resilience import registry
from tests.support.keycloak_server import KeycloakServer


@pytest.fixture
def keycloak(fresh_registry: None) -> Iterator[KeycloakServer]:
    registry.reload(
        {
            "RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001",
            "KEYCLOAK_ATTEMPT_TIMEOUT": "20",
            "KEYCLOAK_TIMEOUT": "60",
            "MCP_SHED_MAX_LAG": "60",
        }
    )
    with KeycloakServer() as running:
        yield running
