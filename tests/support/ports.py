"""Ports of the loopback interface for servers that tests start."""

import socket
import time

__all__ = ["HOST", "accepts", "free_port", "wait_until_accepting"]

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now, and that a server can bind at once."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
