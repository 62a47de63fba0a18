"""Counts the connections that this process tries to open, by port: also those that nobody accepts."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

__all__ = ["connects"]

_tried: Counter[int] = Counter()
_watching = False


def connects(port: int) -> int:
    """How often this process has begun to connect to the port since this was first asked."""
    global _watching
    if not _watching:
        _watching = True
        sys.addaudithook(_see)  # for the rest of the process: there is no way to remove one
    return _tried[port]


def _see(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        _tried[arguments[1][1]] += 1
