from collections.abc import Iterator

import pytest

from tests.llm.models import set_policies
from tests.llm.provider_server import ProviderServer
from tests.support.llmock_server import LlmockServer


@pytest.fixture(autouse=True)
def quick_retries(fresh_registry: None) -> None:
    set_policies()


@pytest.fixture
def providers() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmockServer]:
    with LlmockServer(tmp_path_factory.mktemp("llmock")) as server:
        yield server
