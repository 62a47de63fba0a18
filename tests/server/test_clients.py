"""Every client that the server makes, whoever makes it: a timeout on every wait, a pipeline around every request, and
nothing repeated below. What is sent outside of a pipeline fails these tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mcp_server_langgraph.resilience import Pipeline, Timeout, config
from mcp_server_langgraph.server.identity import Caller
from mcp_server_langgraph.server.wiring import Wired, wire
from mcp_server_langgraph.settings import load
from tests.server.running import UNHURRIED
from tests.server.test_services import MODEL
from tests.support.client_watch import ClientWatch, watching
from tests.support.http_server import HttpServer, Request, Response
from tests.support.keycloak_server import KeycloakServer
from tests.support.openfga_server import OpenFGAServer
from tests.support.ports import HOST, free_port


class Unwell(HttpServer):
    """Answers 500 to everybody."""

    async def handle(self, request: Request) -> Response:
        return Response({}, 500)


@pytest.fixture(scope="module")
def unwell() -> Iterator[Unwell]:
    with Unwell() as server:
        yield server


@contextlib.contextmanager
def started(*servers: Any) -> Iterator[None]:
    for server in servers:
        server.start()
    try:
        yield
    finally:
        for server in servers:
            server.stop()


@contextlib.asynccontextmanager
async def wired(variables: dict[str, str]) -> Any:
    """The services as the server makes them, with all that they do in the background."""
    settings, resilience = load({**UNHURRIED, "RETRY_STOP_AFTER_ATTEMPT": "1", **variables})
    config.install(resilience)
    built = wire(settings)
    try:
        built.services.start()
        yield built
    finally:
        await built.services.aclose()


def providers(server: Unwell) -> dict[str, str]:
    return {
        "LLM_PROVIDER": "openai",
        "LLM_FALLBACK_MODELS": "anthropic:m,google:m,mine:m",
        "LLM_ENDPOINTS": f"mine={server.url}/mine/v1",
        "LLM_API_KEYS": "mine=key",
        **{f"{name}_API_KEY": "key" for name in ("OPENAI", "ANTHROPIC", "GOOGLE")},
        **{f"{name}_BASE_URL": f"{server.url}/{name.lower()}" for name in ("OPENAI", "ANTHROPIC", "GOOGLE")},
    }


async def tried(asked: Awaitable[Any]) -> None:
    """What comes of it is not the question here."""
    with contextlib.suppress(Exception):
        await asked


def asked_for(watch: ClientWatch) -> set[str]:
    return {sent.pipelines[-1].partition(".")[0] for sent in watch.sent if sent.pipelines}


@pytest.mark.real_time(limit=240)
async def test_all_services_configured_every_request_has_its_timeouts_and_its_pipeline(
    unwell: Unwell,
) -> None:
    keycloak, openfga = KeycloakServer(), OpenFGAServer(MODEL)
    variables = {
        **providers(unwell),
        "KEYCLOAK_URL": keycloak.url,
        "KEYCLOAK_REALM": keycloak.realm,
        "KEYCLOAK_AUDIENCE": "mcp-server",
        "KEYCLOAK_CLIENT_SECRET": "s",
        "OPENFGA_API_URL": openfga.url,
        "OPENFGA_STORE_ID": openfga.store_id,
        "OPENFGA_API_TOKEN": "key",
        "PROMETHEUS_URL": unwell.url,
        "REDIS_URL": f"redis://{HOST}:{free_port()}",
    }
    with started(keycloak, openfga), watching() as watch:
        async with wired(variables) as built:
            await drive(built, keycloak.token())
            for _ in range(20):  # an attempt is short, and this machine may be busy
                if keycloak.count("introspect"):
                    break
                await tried(built.token_check(keycloak.token()))
    assert watch.problems() == []
    assert asked_for(watch) == {"keycloak", "llm", "openfga", "probe", "prometheus", "redis"}
    paths = " ".join(sent.what for sent in watch.sent)
    for part in (
        "/openai/",
        "/anthropic/",
        "/google/",
        "/mine/",
        "/introspect",
        "/certs",
        "/check",
        "/query",
    ):
        assert part in paths, part


async def drive(built: Wired, token: str) -> None:
    """Ask every service for something, and each link of the chain of models for an answer."""
    services = built.services
    agent = await services.loader.get()
    assert built.token_check is not None
    assert services.prometheus is not None
    await asyncio.gather(
        services.board.services(),
        tried(built.token_check(token)),
        tried(services.permit(Caller("ann", "test"), "can_chat", [])),
        tried(services.prometheus.query("up")),
        tried(services.sessions.search("ann", "x", 1)),
        tried(agent.chat("ann", "hello")),
    )


@pytest.mark.real_time
@pytest.mark.parametrize("url", ["redis+sentinel://{}/main", "redis+cluster://{}", "rediss://{}"])
async def test_redis_behind_sentinel_in_a_cluster_or_over_tls_too(url: str) -> None:
    with watching() as watch:
        async with wired({"REDIS_URL": url.format(f"{HOST}:{free_port()}")}) as built:
            await tried(built.services.sessions.search("ann", "x", 1))
    assert watch.problems() == []
    assert "redis" in asked_for(watch)


GUARD = Pipeline("guard", Timeout(5))
TAME = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 1, "socket_connect_timeout": 1}


async def by_httpx2(url: str, **options: Any) -> None:
    async with httpx2.AsyncClient(**options) as client:
        await client.get(url)


async def by_httpx(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(url)


async def by_httpx_in_a_thread(url: str) -> None:
    await asyncio.to_thread(httpx.get, url)


async def by_redis(url: str, **options: Any) -> None:
    client = redis.asyncio.Redis.from_url(url.replace("http", "redis"), **(options or TAME))
    try:
        await client.get("x")
    finally:
        await client.aclose()


async def by_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url):
        pass


async def by_hand(url: str) -> None:
    _, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
    writer.close()


@pytest.mark.real_time
@pytest.mark.parametrize("ask", [by_httpx2, by_httpx, by_httpx_in_a_thread, by_redis, by_aiohttp, by_hand])
async def test_what_is_sent_outside_of_a_pipeline_is_seen(
    unwell: Unwell, ask: Callable[..., Awaitable[None]]
) -> None:
    with watching() as watch:
        await tried(ask(unwell.url))
    assert any("no pipeline" in problem for problem in watch.problems()), watch.sent


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("ask", "options", "problem"),
    [
        (by_httpx2, {"timeout": None}, "no timeout for connect, read, write, pool"),
        (by_httpx2, {"timeout": httpx2.Timeout(1, pool=None)}, "no timeout for pool"),
        (by_httpx2, {"transport": httpx2.AsyncHTTPTransport(retries=1)}, "connects anew by itself"),
        (by_redis, {**TAME, "socket_timeout": None}, "no timeout for read"),
        (by_redis, {**TAME, "retry": Retry(NoBackoff(), 2)}, "repeats commands by itself"),
    ],
)
async def test_a_pipeline_is_not_enough(
    unwell: Unwell, ask: Callable[..., Awaitable[None]], options: dict[str, Any], problem: str
) -> None:
    with watching() as watch:
        await tried(GUARD.call(ask, unwell.url, **options))
    assert any(problem in found for found in watch.problems()), watch.problems()


@pytest.mark.real_time
async def test_a_pipeline_that_bounds_no_time_is_none(unwell: Unwell) -> None:
    with watching() as watch:
        await tried(Pipeline("endless").call(by_httpx2, unwell.url))
    assert any("no pipeline that bounds its time" in problem for problem in watch.problems())


@pytest.mark.real_time
async def test_a_client_of_ours_that_was_never_at_work_is_named() -> None:
    with watching() as watch:
        async with httpx2.AsyncClient():
            pass
    watch.made[:] = [dataclasses.replace(made, by="mcp_server_langgraph.new") for made in watch.made]
    assert any("made by mcp_server_langgraph.new: no request of it was seen" in p for p in watch.problems())
