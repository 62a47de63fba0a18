"""A server of the tests that ends while clients connect leaves nothing that a later test would be blamed for."""

from __future__ import annotations

import gc
import socket
import warnings

from tests.support.http_server import HttpServer, Request, Response
from tests.support.ports import HOST


class Hello(HttpServer):
    async def handle(self, request: Request) -> Response:
        return Response({})


def test_whoever_is_just_being_accepted_is_let_go() -> None:
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        for _ in range(20):
            with Hello() as server:
                clients = [socket.create_connection((HOST, server.port), timeout=60) for _ in range(3)]
            for client in clients:
                client.close()
        gc.collect()
    assert not complaints
