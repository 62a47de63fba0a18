"""The proxy fails in the way that it is told, and counts what came."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.faulty_proxy import FaultyProxy, Sickness
from tests.support.http_server import HttpServer, Request, Response
from tests.support.ports import free_port
from tests.support.requests_in import HTTP, REDIS


class Hello(HttpServer):
    async def handle(self, request: Request) -> Response:
        return Response({"hello": "world"})


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with Hello() as server, FaultyProxy(server.port, HTTP) as before_it:
        yield before_it


def ask(proxy: FaultyProxy, timeout: float = 30.0) -> httpx2.Response:
    return httpx2.get(f"http://127.0.0.1:{proxy.port}/path?query", timeout=timeout)


def test_a_well_proxy_passes_on_and_counts(proxy: FaultyProxy) -> None:
    assert ask(proxy).json() == {"hello": "world"}
    assert proxy.requests == {"GET /path": 1}
    assert proxy.tries == 1


@pytest.mark.parametrize(
    ("sickness", "error"),
    [
        (Sickness("refuse"), httpx2.ConnectError),
        (Sickness("silent"), httpx2.ReadTimeout),
        (Sickness("slow", seconds=60.0), httpx2.ReadTimeout),
        (Sickness("cut"), httpx2.ReadError),
        (Sickness("answer", answer=b"\x00 no answer\r\n\r\n", then_close=True), httpx2.RemoteProtocolError),
    ],
    ids=lambda value: value.kind if isinstance(value, Sickness) else None,
)
def test_a_sick_proxy_fails_as_it_is_told_until_it_is_healed(
    proxy: FaultyProxy, sickness: Sickness, error: type[Exception]
) -> None:
    proxy.become(sickness)
    for tries in (1, 2):
        with pytest.raises(error):
            ask(proxy, 0.3 if error is httpx2.ReadTimeout else 30.0)
        assert proxy.tries == tries, "also those that nobody accepted"
    proxy.heal()
    assert ask(proxy).status_code == 200


def test_tries_at_a_server_that_had_the_port_before_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr("tests.support.faulty_proxy.free_port", lambda: port)
    with Hello() as server:
        for _ in range(2):
            with FaultyProxy(server.port, HTTP) as proxy:
                ask(proxy)
                assert proxy.tries == 1


def test_an_answer_in_the_services_stead_never_reaches_it(proxy: FaultyProxy) -> None:
    proxy.become(Sickness("answer", answer=b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"))
    assert ask(proxy).status_code == 503
    assert proxy.requests == {"GET /path": 1}


def test_a_certificate_expires_while_the_proxy_runs(tmp_path: Path) -> None:
    with Hello() as server, FaultyProxy(server.port, HTTP, tmp_path) as proxy:
        trusting = ssl.create_default_context(cafile=proxy.trusted)
        url = f"https://127.0.0.1:{proxy.port}/"
        assert httpx2.get(url, verify=trusting, timeout=30).status_code == 200
        proxy.become(Sickness("expired"))
        with pytest.raises(httpx2.ConnectError, match="certificate has expired"):
            httpx2.get(url, verify=trusting, timeout=30)
        proxy.heal()
        assert httpx2.get(url, verify=trusting, timeout=30).status_code == 200


def test_requests_are_told_apart_however_their_bytes_arrive() -> None:
    http = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b?c HTTP/1.1\r\nHost: x\r\n\r\n"
    redis = b"*2\r\n$6\r\nselect\r\n$1\r\n0\r\n*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n"
    for split, text, names in ((HTTP, http, ["POST /a", "GET /b"]), (REDIS, redis, ["SELECT", "GET"])):
        found, rest = [], b""
        for byte in text:
            asked, rest = split(rest + bytes([byte]))
            found += asked
        assert [each.name for each in found] == names
        assert b"".join(each.raw for each in found) == text
        assert rest == b""
    assert REDIS(redis)[0][0].handshake
