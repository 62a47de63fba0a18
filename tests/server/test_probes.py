"""Probes of the services: only one that works answers them, whatever its kernel accepts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from mcp_server_langgraph.server import probes
from mcp_server_langgraph.server.probes import HttpProbes, Probe, redis_answers
from tests.support.certificates import write_certificate
from tests.support.http_server import HttpServer, Request, Response
from tests.support.ports import HOST, free_port
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time

A_MOMENT = 0.2
"""Seconds for a probe that nobody answers."""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever works answers in time, however busy this machine is."""
    monkeypatch.setattr(probes, "PROBE_SECONDS", 20.0)


class Healthy(HttpServer):
    async def handle(self, request: Request) -> Response:
        return Response({"status": "SERVING"} if request.path == "/healthz" else {}, 200)


async def works(probe: Probe) -> bool:
    try:
        await probe()
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def test_a_redis_is_asked_and_a_stopped_one_does_not_answer(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = redis_answers(redis.url)
    assert await works(probe)
    redis.pause()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(probes, "PROBE_SECONDS", A_MOMENT)
            assert not await works(probe)
    finally:
        redis.resume()
    assert await works(probe)


async def test_a_redis_that_asks_for_a_password_or_speaks_tls_answers_too(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "password") as server:
        async with Redis.from_url(server.url) as client:
            await client.config_set("requirepass", "s3cret")
        assert await works(redis_answers(server.url))
    with RedisServer(tmp_path / "socket", unixsocket=str(tmp_path / "r.sock")):
        assert await works(redis_answers(f"unix://{tmp_path}/r.sock"))
    written, key = write_certificate(tmp_path)
    options = {"tls_cert_file": str(written), "tls_key_file": str(key), "tls_ca_cert_file": str(written)}
    port = free_port()
    with RedisServer(tmp_path / "tls", "redis", tls_port=str(port), tls_auth_clients="no", **options):
        url = f"rediss://{HOST}:{port}"
        assert await works(redis_answers(url, ssl.create_default_context(cafile=str(written))))
        assert not await works(redis_answers(url)), "nobody the system trusts has signed its certificate"


async def test_nobody_at_the_address_is_no_answer() -> None:
    assert not await works(redis_answers(f"redis://{HOST}:{free_port()}"))
    assert not await works(redis_answers("unix:///no/such/socket"))
    async with aclosing(HttpProbes()) as http:
        assert not await works(http.answers(f"http://{HOST}:{free_port()}/", "status"))


async def test_what_answers_and_is_no_redis_is_none() -> None:
    with Healthy() as server:
        assert not await works(redis_answers(server.url.replace("http", "redis")))


async def test_over_http_only_200_in_time_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Healthy() as server:
        async with aclosing(HttpProbes()) as http:
            probe = http.answers(f"{server.url}/healthz", "status", "SERVING")
            assert await works(probe)
            for status in (302, 401, 404, 500, 503):
                server.fail(status)
                assert not await works(probe), status
            server.garbage()
            assert not await works(probe)
            for body in ([], "SERVING", {"status": "NOT_SERVING"}, {"state": "SERVING"}, b"x" * 300_000):
                server.fail(200, body)
                assert not await works(probe), body
            server.heal()
            assert await works(probe)
        monkeypatch.setattr(probes, "PROBE_SECONDS", A_MOMENT)
        async with aclosing(HttpProbes()) as http:
            server.hang()
            assert not await works(http.answers(f"{server.url}/healthz", "status", "SERVING"))


async def test_a_stopped_prometheus_does_not_answer_although_it_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = "/api/v1/query?query=vector(1)"
    with PrometheusServer(tmp_path) as prometheus:
        async with aclosing(HttpProbes()) as http:
            assert await works(http.answers(prometheus.url + question, "status", "success"))
        prometheus.pause()
        monkeypatch.setattr(probes, "PROBE_SECONDS", A_MOMENT)
        try:
            async with aclosing(HttpProbes()) as http:
                assert not await works(http.answers(prometheus.url + question, "status", "success"))
        finally:
            prometheus.resume()
