"""What came too late, and what came again: counted for each service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from . import events
from .errors import DeadlineExceeded

_expired: Final[dict[str, int]] = {}
_repeated: Final[dict[str, int]] = {}
_counting: Final = threading.Lock()


def expired(service: str) -> DeadlineExceeded:
    """Count work that is dropped because its time is up, and give what to raise."""
    _count(_expired, service)
    events.emit("rejected", service, policy=DeadlineExceeded.policy)
    return DeadlineExceeded(service)


def repeated(service: str) -> None:
    """Count work that its caller sends once more."""
    _count(_repeated, service)


def _count(counts: dict[str, int], service: str) -> None:
    with _counting:
        counts[service] = counts.get(service, 0) + 1


def counted() -> Iterator[tuple[str, str, int]]:
    """Every count as (metric, service, value)."""
    for metric, counts in (("deadline_expired_total", _expired), ("incoming_repeated_total", _repeated)):
        for service, count in list(counts.items()):
            yield metric, service, count


def forget_counts() -> None:
    """Count from zero (for tests)."""
    _expired.clear()
    _repeated.clear()
