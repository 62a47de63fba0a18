"""A bounded table of values by key: made when first asked for, the least recently used forgotten first.

Never forgotten is what a call is using, nor what still `matters` (an open breaker): where only such values are left, a
new key gets none. Values that mattered until a time that has passed go when nothing idle is left, the one that has been
due for longest first.

The success path takes no lock: a call leaves a mark in the entry's list and looks whether the entry is still the one
in the table; whoever forgets takes the entry out first and looks for marks after (Dekker's pattern, as in `places`).
The order of use is kept lazily: an entry lies in the heap by the number of a use, and is laid anew when it comes up
and was used since. So a call stores one number, and forgetting costs O(log n).

Entries that came up in vain are set *aside*: those in use until their last call ends, those that matter until then
or until a call of theirs ends. So a search for room looks at each of them once, however many new keys come.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

# Of a value that may be forgotten at any time.
NEVER: Final = -math.inf
# Stale items are swept out of a heap when it is that much longer than the table.
_SLACK: Final = 64


class Entry(Generic[V]):
    """A key's value, and a mark for each call that is using it."""

    __slots__ = ("aside", "calls", "key", "ticket", "used", "value")

    def __init__(self, key: Hashable, value: V, used: int) -> None:
        self.key = key
        self.value = value
        self.used = used
        self.calls: list[None] = []
        self.aside = False
        self.ticket = 0


class KeyTable(Generic[V]):
    """At most ``max_keys`` values (changeable; a smaller number takes effect when the next new key comes).

    ``make`` gives the value of a new key; it must not come back here. ``matters_until`` tells until when a value must
    not be lost. ``forgotten`` is told of each entry that went.
    """

    def __init__(
        self,
        make: Callable[[Hashable], V],
        *,
        max_keys: int,
        matters_until: Callable[[V, float], float],
        forgotten: Callable[[Entry[V]], None],
    ) -> None:
        self.max_keys = max_keys
        self.entries: dict[Hashable, Entry[V]] = {}
        self.evictions = 0
        self._make = make
        self._matters_until = matters_until
        self._forgotten = forgotten
        self._idle: list[tuple[float, int, Entry[V]]] = []
        self._held: list[tuple[float, int, Entry[V]]] = []
        self._uses = itertools.count(1)
        self._tickets = itertools.count(1)
        self._lock = threading.RLock()

    def enter(self, key: Hashable, now: float) -> Entry[V] | None:
        """The key's entry, marked as in use until `leave`; None where no room can be made for it."""
        entry = self.entries.get(key)
        if entry is not None:
            entry.calls.append(None)
            if self.entries.get(key) is entry:
                return entry
            entry.calls.pop()  # it was forgotten in between
        return self._enter_slowly(key, now)

    def _enter_slowly(self, key: Hashable, now: float) -> Entry[V] | None:
        # Two threads must not make two values for one key: `make` runs under the lock.
        with self._lock:
            entry = self.entries.get(key)
            if entry is None:
                while len(self.entries) >= self.max_keys:
                    if not self._make_room(now):
                        return None
                entry = Entry(key, self._make(key), next(self._uses))
                self._list(entry)
                self.entries[key] = entry
            entry.calls.append(None)
            return entry

    def leave(self, entry: Entry[V]) -> None:
        """A call that entered has ended."""
        entry.used = next(self._uses)
        entry.calls.pop()
        if entry.aside:
            with self._lock:
                self._list_if_idle(entry)

    def review(self) -> None:
        """Look again at what was set aside because it mattered: it may have been changed from outside."""
        with self._lock:
            held, self._held = self._held, []
            for _, ticket, entry in held:
                if entry.ticket == ticket:
                    self._list(entry)

    def _list_if_idle(self, entry: Entry[V]) -> None:
        if entry.aside and not entry.calls and self.entries.get(entry.key) is entry:
            self._list(entry)

    def _list(self, entry: Entry[V]) -> None:
        entry.aside = False
        entry.ticket = next(self._tickets)
        _push(self._idle, entry.used, entry, len(self.entries))

    def _make_room(self, now: float) -> bool:
        """Forget one entry, if there is one that may go."""
        while self._idle:
            used, ticket, entry = heapq.heappop(self._idle)
            if entry.ticket != ticket:
                continue
            if entry.used > used:
                self._list(entry)
                continue
            entry.aside = True  # before looking for calls: one that ends now lists the entry again
            if not entry.calls and entry.ticket == ticket and self._forget(entry, now, NEVER):
                return True
        while self._held and self._held[0][0] <= now:
            _, ticket, entry = heapq.heappop(self._held)
            if entry.ticket == ticket and self._forget(entry, now, now):
                return True
        return False

    def _forget(self, entry: Entry[V], now: float, due: float) -> bool:
        """Forget an entry that was set aside, unless it is in use or matters for longer than until ``due``.

        It is taken out before it is looked at, so that what a call changed in between is seen.
        """
        del self.entries[entry.key]
        gone = held = False
        try:
            if not entry.calls:
                until = self._matters_until(entry.value, now)
                gone, held = until <= due, until > due
                if held:
                    _push(self._held, until, entry, len(self.entries))
        finally:
            if not gone:
                self.entries[entry.key] = entry
        if gone:
            entry.ticket = 0
            self.evictions += 1
            self._forgotten(entry)
        elif not held:
            self._list_if_idle(entry)  # where its last call ended meanwhile
        return gone


def _push(heap: list[tuple[float, int, Entry[V]]], at: float, entry: Entry[V], size: int) -> None:
    if len(heap) > 2 * size + _SLACK:
        heap[:] = [item for item in heap if item[2].ticket == item[1]]
        heapq.heapify(heap)
    heapq.heappush(heap, (at, entry.ticket, entry))
