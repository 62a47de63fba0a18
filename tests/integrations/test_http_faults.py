"""An upstream that is dead, hanging, slow, refusing, or breaks off: what each client gets, and what it costs."""

from contextlib import aclosing
from typing import Any

import pytest

from mcp_server_langgraph.resilience import CircuitOpen, TimedOut
from mcp_server_langgraph.resilience.integrations.hosts import Hosts
from tests.integrations.clients import ASYNC, CLIENTS, Client, Upstream, guarded

pytestmark = pytest.mark.real_time
every_client = pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.__name__)
every_async_client = pytest.mark.parametrize("kind", ASYNC, ids=lambda kind: kind.__name__)


def breaker_of(hosts: Hosts, server: Upstream) -> Any:
    """What the host's breaker has counted."""
    keyed = hosts.once.policies[1]
    return keyed.snapshot().states[server.url]  # type: ignore[attr-defined]


def places_of(hosts: Hosts, server: Upstream) -> int:
    """How many places at the host are taken."""
    keyed = hosts.once.policies[0]
    taken: int = keyed.snapshot().states[server.url].active  # type: ignore[attr-defined]
    return taken


@every_client
async def test_an_answer_comes_through_and_is_a_success_of_its_host(
    upstream: Upstream, kind: type[Client]
) -> None:
    async with guarded(kind) as client:
        asked = await client.ask(upstream.url)
        assert (asked.status, len(asked.body)) == (200, 4000)
        assert breaker_of(client.hosts, upstream).successes == 1
        assert places_of(client.hosts, upstream) == 0


@every_client
async def test_a_dead_upstream_opens_the_circuit_and_is_not_asked_any_more(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.stop()
    async with guarded(kind) as client:
        for _ in range(2):
            with pytest.raises(client.transport_error) as refused:
                await client.ask(upstream.url)
            assert not isinstance(refused.value, CircuitOpen)
        upstream.start()
        with pytest.raises(client.transport_error) as caught:
            await client.ask(upstream.url)
        assert isinstance(caught.value, CircuitOpen)
        assert caught.value.retry_after is not None
        assert upstream.connections == 0


@every_client
async def test_one_dead_host_says_nothing_of_another(upstream: Upstream, kind: type[Client]) -> None:
    with Upstream() as other:
        other.stop()
        async with guarded(kind) as client:
            for _ in range(3):
                with pytest.raises(client.transport_error):
                    await client.ask(other.url)
            assert (await client.ask(upstream.url)).status == 200


@every_client
async def test_a_hanging_upstream_is_left_after_the_attempts_time(
    upstream: Upstream, kind: type[Client]
) -> None:
    async with guarded(kind, attempt_timeout=1) as client:
        await client.ask(upstream.url)
        upstream.hang()
        for _ in range(2):
            with pytest.raises(client.timeout_error) as caught:
                await client.ask(upstream.url)
            assert isinstance(caught.value, TimedOut) is client.cuts
        with pytest.raises(CircuitOpen):
            await client.ask(upstream.url)
        assert upstream.count() == 3


@every_client
async def test_a_slow_upstream_is_waited_for(upstream: Upstream, kind: type[Client]) -> None:
    upstream.delay(0.1)
    async with guarded(kind, attempt_timeout=5) as client:
        assert (await client.ask(upstream.url)).status == 200
        assert breaker_of(client.hosts, upstream).successes == 1


@every_client
async def test_a_429_is_given_back_and_is_not_the_hosts_fault(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(429, b"slow down", retry_after="7")
    async with guarded(kind) as client:
        for _ in range(4):
            asked = await client.ask(upstream.url)
            assert (asked.status, asked.body, asked.headers["Retry-After"]) == (429, b"slow down", "7")
        counted = breaker_of(client.hosts, upstream)
        assert (counted.state, counted.neutral) == ("closed", 4)
        assert upstream.count() == 4


@every_client
async def test_a_503_is_given_back_with_its_body_until_the_circuit_opens(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.fail(503, b"in repair")
    async with guarded(kind) as client:
        for _ in range(2):
            asked = await client.ask(upstream.url)
            assert (asked.status, asked.body) == (503, b"in repair")
        with pytest.raises(CircuitOpen):
            await client.ask(upstream.url)
        assert places_of(client.hosts, upstream) == 0
        assert upstream.count() == 2


@every_client
async def test_a_page_of_an_error_that_is_long_comes_through(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(500, b"y" * 200_000)
    async with guarded(kind) as client:
        assert len((await client.ask(upstream.url)).body) == 200_000


@every_client
async def test_a_404_says_nothing_of_the_host(upstream: Upstream, kind: type[Client]) -> None:
    upstream.fail(404)
    async with guarded(kind) as client:
        for _ in range(3):
            assert (await client.ask(upstream.url)).status == 404
        assert breaker_of(client.hosts, upstream).neutral == 3


@every_client
async def test_a_body_that_is_cut_is_a_failure_and_the_librarys_own_error(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.cut(1500)
    async with guarded(kind) as client:
        for _ in range(2):
            with pytest.raises(client.transport_error) as caught:
                await client.ask(upstream.url)
            assert "resilience" not in type(caught.value).__module__
        counted = breaker_of(client.hosts, upstream)
        assert (counted.state, sum(counted.failures.values())) == ("open", 2)
        assert places_of(client.hosts, upstream) == 0


@every_client
async def test_a_body_that_goes_silent_is_cut_after_the_idle_time(
    upstream: Upstream, kind: type[Client]
) -> None:
    upstream.stall(1500)
    async with guarded(kind, idle_timeout=0.3) as client:
        got = b""
        with pytest.raises(client.timeout_error):  # noqa: PT012 (what came before is looked at)
            async with aclosing(client.pieces(upstream.url)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    got += piece
        assert len(got) == 1500
        assert sum(breaker_of(client.hosts, upstream).failures.values()) == 1
        assert places_of(client.hosts, upstream) == 0
