"""What is published by a provider and kept here, in virtual time. (The keys' own tests are in `test_key_cache`.)"""

import asyncio
from contextvars import ContextVar

import pytest

from mcp_server_langgraph.auth._refreshed import Ages, Refreshed
from mcp_server_langgraph.auth.identity import IdentityUnavailable
from mcp_server_langgraph.resilience import timeout
from mcp_server_langgraph.resilience.deadline import remaining

_request: ContextVar[str] = ContextVar("request", default="nobody's")


class Provider:
    """Counts its answers; `failure` is raised instead while it is set, and every answer takes `seconds`."""

    def __init__(self) -> None:
        self.answers = 0
        self.failure: Exception | None = None
        self.seconds = 0.01

    async def __call__(self) -> int:
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        self.answers += 1
        return self.answers


def kept(provider: Provider, patience: float = 0.5) -> Refreshed[int]:
    return Refreshed("facts", provider, Ages(300.0, 3600.0), patience)


async def test_who_comes_late_to_a_slow_refresh_does_not_wait_all_over_again() -> None:
    provider = Provider()
    provider.seconds = 10.0
    facts = kept(provider)
    loop = asyncio.get_running_loop()
    with pytest.raises(IdentityUnavailable):
        await facts.get()
    for _ in range(100):
        with pytest.raises(IdentityUnavailable):
            await facts.get()
    assert loop.time() == pytest.approx(0.5)
    await asyncio.sleep(10)
    assert await facts.get() == 1


async def test_who_joins_a_refresh_waits_for_what_is_left_of_the_patience() -> None:
    provider = Provider()
    provider.seconds = 10.0
    facts = kept(provider)
    first = asyncio.create_task(facts.get())
    await asyncio.sleep(0.3)
    with pytest.raises(IdentityUnavailable):
        await facts.get()
    assert asyncio.get_running_loop().time() == pytest.approx(0.5)
    with pytest.raises(IdentityUnavailable):
        await first
    await facts.aclose()


async def test_the_time_that_a_provider_asks_for_is_passed_on_through_what_is_built_on_it() -> None:
    inner = Provider()
    inner.failure = IdentityUnavailable("keys", 17.0)
    facts = kept(inner)
    with pytest.raises(IdentityUnavailable) as caught:
        await facts.get()
    assert caught.value.retry_after == pytest.approx(17.0)
    assert caught.value.__cause__ is inner.failure


async def test_closing_stops_a_refresh() -> None:
    provider = Provider()
    provider.seconds = 1000.0
    facts = kept(provider)
    with pytest.raises(IdentityUnavailable):
        await facts.get()
    assert facts.running
    await facts.aclose()
    assert not facts.running
    assert provider.answers == 0


async def test_a_refresh_knows_neither_the_deadline_nor_the_context_of_who_began_it() -> None:
    seen = []

    async def fetch() -> str:
        seen.append((_request.get(), remaining()))
        return "value"

    refreshed = Refreshed("things", fetch, Ages(10.0, 20.0), 0.5)
    async with timeout(60):
        _request.set("ann's")
        assert await refreshed.get() == "value"
    assert seen == [("nobody's", None)]
