"""What is loaded for good is left alone by the garbage collector; what is garbage by then is not kept with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_server_langgraph.server import garbage, main
from mcp_server_langgraph.settings import Settings


class Thing:
    def __init__(self) -> None:
        self.myself = self


@pytest.fixture
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_what_is_left_is_not_looked_at_again_and_garbage_is_collected_before() -> None:
    kept, lost = Thing(), weakref.ref(Thing())
    garbage.settle()
    assert lost() is None
    later = Thing()
    looked_at = {id(one) for one in gc.get_objects()}
    assert id(kept) not in looked_at
    assert id(later) in looked_at


class Built(Exception):
    """As far as this test needs to go."""


async def test_the_server_has_it_done_when_the_agent_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    async def build(services: Any, *_: object) -> None:
        given.append(services)
        raise Built

    monkeypatch.setattr(main, "build_server", build)
    with pytest.raises(Built):
        await main._serve(Settings.from_env({}), "stdio", dict)
    [services] = given
    assert services.loader.loaded is garbage.settle
