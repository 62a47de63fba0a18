"""A server that misbehaves."""

from collections.abc import Iterator

import pytest

from tests.integrations.clients import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server
