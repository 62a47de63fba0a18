"""A server that misbehaves."""

from collections.abc import Iterator

import pytest

from mcp_server_langgraph.resilience.testing import Recorder
from tests.integrations.clients import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as heard:
        yield heard
