"""What a memory of answers keeps: a bounded map of values with the time they are from. Pure; ``now`` is an argument.

The least recently used go first. Reads and writes take a lock, unlike the rest of the layer's success path: what it
costs (60 ns) is nothing beside the call that a hit saves, and a dict in order cannot be changed by two threads at once.
It is reentrant because the garbage collector may close an abandoned call in the middle of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple


class Known(NamedTuple):
    """A value, and how many seconds old it is."""

    value: Any
    age: float


class Store:
    """At most ``max_size`` values, by key."""

    __slots__ = ("_kept", "_lock", "_max_size")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._kept: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def max_size(self) -> int:
        """How many are kept at most."""
        return self._max_size

    def put(self, key: Hashable, value: Any, now: float) -> None:
        """Keep a value that is from ``now``."""
        with self._lock:
            self._kept[key] = (value, now)
            self._kept.move_to_end(key)
            self._shrink()

    def get(self, key: Hashable, now: float, max_age: float) -> Known | None:
        """The value if it is at most ``max_age`` seconds old; to look at it is to use it."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or now - kept[1] > max_age:
                return None
            self._kept.move_to_end(key)
            return Known(kept[0], max(0.0, now - kept[1]))

    def resize(self, max_size: int) -> None:
        """Keep at most so many from now on."""
        with self._lock:
            self._max_size = max_size
            self._shrink()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def _shrink(self) -> None:
        while len(self._kept) > self._max_size:
            self._kept.popitem(last=False)
