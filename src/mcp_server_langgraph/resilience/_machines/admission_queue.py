"""The line before an adaptive limit: bounded, by criticality, first come first served until it stands, then newest
first (`codel`, `shares`).

Nobody waits in vain: who has waited longer than allowed, or whose deadline has passed, is passed over; and where the
line is full, one who is more critical takes the place of the least critical in it.

Source: B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015 (adaptive LIFO); H. Zhou et al., "Overload Control for Scaling
WeChat Microservices" (DAGOR), SoCC 2018 (who matters less goes first).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import NamedTuple, Protocol

from .codel import CoDel
from .places import LoopWaiter, ThreadWaiter, Waiter
from .shares import Shares


class End(NamedTuple):
    """A time, and what it means that it has passed."""

    when: float
    why: str


class Entry(Waiter, Protocol):
    """Somebody in the line. ``end``: the time after which the wait is in vain, for the reason ``late``. ``why``: why it
    was turned away; None where it was not.
    """

    level: int
    end: float
    late: str
    share: deque[None] | None
    why: str | None

    def turn_away(self, why: str) -> None:
        """End the wait without a place."""
        ...


class Lane(OrderedDict[Entry, None]):
    """The line of one level, in the order in which they came. It may stand while the line above it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.codel = CoDel()

    def take(self, *, last: bool) -> Entry | None:
        """Take out the one who came last, or first."""
        try:
            return self.popitem(last=last)[0]
        except KeyError:
            return None


class AdmissionQueue(dict[Entry, None]):
    """Everybody in the line; and, for their order, lanes by level.

    Not safe by itself: `Places` holds the lock. But its steps can be interrupted by the garbage collector, which may
    close a call that is in the line. So nobody has left before being popped from the dict, in one atomic call.
    """

    __slots__ = ("lanes", "limit", "shares")

    def __init__(self, shares: Shares, limit: int) -> None:
        super().__init__()
        self.shares = shares
        self.limit = limit
        self.lanes = tuple(Lane() for _ in shares.busy)

    def join(self, waiter: Entry, room: int, now: float) -> bool:
        """Stand in line; False where it is full of those who matter as much."""
        if len(self) >= room:
            victim = self._least_critical(waiter.level, now)
            if victim is None:
                return False
            victim.turn_away("displaced")
        self[waiter] = None
        lane = self.lanes[waiter.level]
        lane[waiter] = None
        lane.codel.came(now)
        return True

    def leave(self, waiter: Entry, now: float) -> bool:
        """Stop waiting; False where it is not in the line."""
        if self.pop(waiter, False) is not None:
            return False
        lane = self.lanes[waiter.level]
        lane.pop(waiter, None)
        if not lane:
            lane.codel.emptied(now, served=False)
        return True

    def next(self, now: float) -> Entry | None:
        """Take whose turn it is out of the line; None where nobody waits who can still be served."""
        while True:
            level = self.shares.pick((at for at, lane in enumerate(self.lanes) if lane), self.limit)
            if level is None:
                return None
            lane = self.lanes[level]
            entry = lane.take(last=lane.codel.overloaded(now))
            if entry is None or self.pop(entry, False) is not None:
                continue
            late = entry.end <= now
            if not lane:
                lane.codel.emptied(now, served=not late)
            if not late:
                return entry
            entry.turn_away(entry.late)

    def _least_critical(self, level: int, now: float) -> Entry | None:
        """Who would be served last, if it matters less than ``level``."""
        for lane in self.lanes[:level]:
            entry = lane.take(last=not lane.codel.overloaded(now))
            if entry is not None and self.pop(entry, False) is None:
                if not lane:
                    lane.codel.emptied(now, served=False)
                return entry
        return None


class LoopEntry(LoopWaiter):
    """A task in the line. ``late``: what it means that its end has passed. ``share``: where its level's places are
    counted; with the hand-over, because the next may follow before the task runs.
    """

    __slots__ = ("end", "late", "level", "share", "why")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, level: int, end: End, share: deque[None] | None = None
    ) -> None:
        super().__init__(loop)
        self.level = level
        self.end, self.late = end
        self.share = share
        self.why: str | None = None

    def wake(self) -> bool:
        """Hand the place over; False where its loop is closed."""
        if self.share is not None:
            self.share.append(None)
        if super().wake():
            return True
        if self.share is not None:
            self.share.pop()
        return False

    def turn_away(self, why: str) -> None:
        """End the wait without a place."""
        self.why = why
        self.tell(False)


class ThreadEntry(ThreadWaiter):
    """A thread in the line."""

    __slots__ = ("end", "late", "level", "share", "why")

    def __init__(self, level: int, end: End, share: deque[None] | None = None) -> None:
        super().__init__()
        self.level = level
        self.end, self.late = end
        self.share = share
        self.why: str | None = None

    def wake(self) -> bool:
        """Hand the place over."""
        if self.share is not None:
            self.share.append(None)
        return super().wake()

    def turn_away(self, why: str) -> None:
        """End the wait without a place."""
        self.why = why
        self.event.set()
