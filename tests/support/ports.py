"""Ports of the loopback interface for servers that tests start."""

import os
import random
import socket
import time
from collections.abc import Iterator
from itertools import cycle, islice

__all__ = ["HOST", "accepts", "free_port", "wait_until_accepting"]

HOST = "127.0.0.1"
_POOL = range(10_000, 20_000)
"""Below what any system gives to clients, so that nothing is at a port whose server is down: a client that connects
to such a port from that very port would talk to itself. The bus of a Redis Cluster's node is 10,000 above it.
"""
_SHARE = 1_250
"""That many belong to each worker of a test run, of whom there are eight at most."""


def _walk() -> Iterator[int]:
    """The worker's ports round and round, from a random one on: none comes again soon."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")[2:]
    first = (int(worker) if worker else random.randrange(8)) * _SHARE % len(_POOL)
    return islice(cycle(_POOL[first:][:_SHARE]), random.randrange(_SHARE), None)


_ports = _walk()


def free_port() -> int:
    """A port that nobody listens on now, and that a server can bind at once."""
    for port in islice(_ports, _SHARE):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port among {_SHARE:,} of {_POOL.start:,} to {_POOL.stop - 1:,}")


def accepts(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def wait_until_accepting(port: int, *, within: float = 10.0) -> None:
    """Block until the port accepts connections. Raises TimeoutError after `within` seconds."""
    give_up = time.monotonic() + within
    while not accepts(port):
        if time.monotonic() > give_up:
            raise TimeoutError(f"nothing accepts connections on port {port} after {within} s")
        time.sleep(0.01)
