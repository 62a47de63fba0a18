"""Signs of life of the child process: what it has used of the processor, and whether it says a word."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Final
from urllib.parse import urlsplit

__all__ = ["processor_time", "says_a_word"]

_SCHED: Final = 2
"""CPUCLOCK_SCHED: of the clocks that Linux keeps for a process, the one of `clock_getcpuclockid`, in nanoseconds."""

_WORD: Final = json.dumps({"prompt": "a", "n_predict": 1}).encode()


def processor_time(pid: int) -> float | None:
    """Seconds of processor time that all threads of a process have used. None: there is no such process, or system
    that tells.
    """
    try:
        return time.clock_gettime((~pid << 3) | _SCHED)
    except OSError:
        return None


async def says_a_word(url: str, key: str) -> bool:
    """Whether the server answers a question of one token. Waits without limit. Raises OSError.

    ``/health`` and ``/slots`` do not tell: they were answered as ever while the thread that computes was stopped.
    """
    # No HTTP client: making one reads the certificates of the machine, and it might go through a proxy.
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = (
            "POST /completion HTTP/1.1",
            f"Host: {address.netloc}",
            f"Authorization: Bearer {key}",
            "Content-Type: application/json",
            f"Content-Length: {len(_WORD)}",
            "Connection: close",
            "\r\n",
        )
        writer.write("\r\n".join(head).encode() + _WORD)
        return bool(await reader.readline())
    finally:
        writer.close()
