"""A stand-in for Prometheus, and attempts that follow each other at once."""

from collections.abc import Iterator

import pytest

from mcp_server_langgraph.resilience.config import Settings, install
from tests.monitoring.fake_prometheus import FakePrometheus


@pytest.fixture
def quick_retries(fresh_registry: None) -> None:
    install(Settings({"PROMETHEUS_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.01"}))


@pytest.fixture
def server() -> Iterator[FakePrometheus]:
    with FakePrometheus() as fake:
        yield fake
