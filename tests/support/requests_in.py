"""Where one request ends and the next begins, in what a client sends: HTTP/1.1 and Redis' protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["HTTP", "REDIS", "Asked", "Split"]


class Asked(NamedTuple):
    """One request: its name, its bytes, and whether it only opens the connection."""

    name: str
    raw: bytes
    handshake: bool = False


Split = Callable[[bytes], tuple[list[Asked], bytes]]
"""Gives the requests that are complete, and what is left."""

_HANDSHAKE: Final = frozenset({"AUTH", "CLIENT", "HELLO", "SELECT"})


def HTTP(buffer: bytes) -> tuple[list[Asked], bytes]:  # noqa: N802 (a protocol's name)
    """Requests named "METHOD /path"; bodies have a Content-Length."""
    found: list[Asked] = []
    while (end := buffer.find(b"\r\n\r\n")) >= 0:
        lines = buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(":") for line in lines[1:])}
        whole = end + 4 + int(headers.get("content-length", "0"))
        if len(buffer) < whole:
            break
        method, target, _ = lines[0].split(" ", 2)
        found.append(Asked(f"{method} {target.partition('?')[0]}", buffer[:whole]))
        buffer = buffer[whole:]
    return found, buffer


def REDIS(buffer: bytes) -> tuple[list[Asked], bytes]:  # noqa: N802
    """Commands, each an array of strings, named by their first word."""
    found: list[Asked] = []
    while (parsed := _command(buffer)) is not None:
        name, size = parsed
        found.append(Asked(name, buffer[:size], name in _HANDSHAKE))
        buffer = buffer[size:]
    return found, buffer


def _command(buffer: bytes) -> tuple[str, int] | None:
    end = buffer.find(b"\r\n")
    if end < 0:
        return None
    words: list[bytes] = []
    position = end + 2
    for _ in range(int(buffer[1:end])):
        end = buffer.find(b"\r\n", position)
        if end < 0:
            return None
        begins, length = end + 2, int(buffer[position + 1 : end])
        position = begins + length + 2
        if position > len(buffer):
            return None
        words.append(buffer[begins : begins + length])
    return words[0].decode().upper(), position
