"""The running loop's clock, which is virtual unless a test asks for real time."""

from __future__ import annotations

import asyncio
from typing import Any


def now() -> float:
    """Seconds; a test in virtual time begins at 0."""
    return asyncio.get_running_loop().time()


def timers() -> int:
    """How many timers the loop holds that nobody cancelled."""
    loop: Any = asyncio.get_running_loop()
    return sum(not handle.cancelled() for handle in loop._scheduled)
