"""Ports for servers of the tests: nobody is there, and nobody comes there by chance."""

from __future__ import annotations

import socket

import pytest

from tests.support import ports
from tests.support.ports import HOST, free_port


def test_no_port_comes_twice_within_a_thousand() -> None:
    given = [free_port() for _ in range(1_000)]
    assert len(set(given)) == 1_000


def test_no_client_of_this_machine_is_given_such_a_port() -> None:
    given = free_port()
    with socket.socket() as client:
        client.bind((HOST, 0))
        assert given < 20_000 < client.getsockname()[1]


def test_a_port_where_somebody_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_port(), free_port()
    monkeypatch.setattr(ports, "_ports", iter([taken, free]))
    with socket.create_server((HOST, taken)):
        assert free_port() == free
