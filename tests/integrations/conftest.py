"""Servers that misbehave."""

from collections.abc import Iterator

import pytest

from mcp_server_langgraph.resilience.testing import Recorder
from tests.integrations.clients import Upstream
from tests.llm.provider_server import ProviderServer


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def providers() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as heard:
        yield heard
