"""The local model's server, once for all tests that only ask it things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.llm.local.llama import Llama
from tests.support.components import require


@pytest.fixture(scope="session")
def llama() -> Iterator[Llama]:
    """For tests that only ask it things."""
    require("local-model")
    with Llama() as running:
        yield running


@pytest.fixture(params=["anthropic", "openai"])
def api(request: pytest.FixtureRequest) -> str:
    """The kind of provider whose SDK asks."""
    kind: str = request.param
    return kind
