"""The client throttle's machine: how many of the last calls the dependency accepted, and whom to shed for it.

With ``requests`` calls in the window, of which it accepted ``accepts``, the share to shed is
``max(0, (requests - k * accepts) / (requests + 1))`` (SRE book, ch. 21). Calls that were shed here are requests too: so
the share grows until what is still sent is ``k`` times what is accepted. In steady overload, where a refusal costs the
dependency ``rho`` of a served call, its goodput is then ``1 / (1 + rho * (k - 1))``.

The share is capped: the pure formula lets one in ``requests`` through after an outage, and takes minutes to find out
that it is over. Those who matter least are shed first, up to the cap, the next level only for what is still missing.

A call is counted when it ends, not when it begins: of a thousand calls that begin at once none has been accepted yet.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final

# Parts of the window that are forgotten at once.
PARTS: Final = 24
LEVELS: Final = 4


class Part:
    """What was counted in one part of the window."""

    __slots__ = ("accepts", "began", "requests")

    def __init__(self, began: float) -> None:
        self.began = began
        self.requests = [0] * LEVELS
        self.accepts = 0


class ThrottleMachine:
    """``k``: calls sent for each accepted one. ``cap``: the largest share shed. ``window``: seconds that are looked at.
    ``least``: calls in the window below which nobody is shed. Levels go from 0, shed first, to 3.
    """

    __slots__ = (
        *("_lock", "_next_part", "_part", "_parts", "_window"),
        *("accepts", "cap", "k", "least", "requests", "total"),
    )

    def __init__(self, k: float = 2.0, cap: float = 0.9, window: float = 120.0, least: int = 10) -> None:
        self.k = k
        self.cap = cap
        self.least = least
        self._window = window
        self._parts: deque[Part] = deque()
        self._part = Part(-math.inf)
        self._next_part = -math.inf
        self._lock = threading.Lock()
        self.requests = [0] * LEVELS
        self.total = 0
        self.accepts = 0

    def change_window(self, window: float) -> None:
        """Look at another length of time from now on."""
        with self._lock:
            self._window = window
            self._next_part = -math.inf

    def presses(self, now: float) -> bool:
        """Whether anybody is to be shed at all."""
        if now >= self._next_part:
            self._turn(now)
        return self.total > self.k * self.accepts and self.total >= self.least

    def share(self, now: float) -> float:
        """The share of all calls that is to be shed (0 to ``cap``)."""
        if not self.presses(now):
            return 0.0
        return min(self.cap, (self.total - self.k * self.accepts) / (self.total + 1))

    def sheds(self, level: int, chance: float, now: float) -> bool:
        """Whether a call of that level which draws ``chance`` (0 to 1, 1 excluded) is shed."""
        return chance < self.share_of(level, now)

    def share_of(self, level: int, now: float) -> float:
        """The share of one level's calls that is to be shed; where none of it came, as if all had been of it."""
        missing = self.share(now) * self.total
        for below in range(level):
            missing -= min(missing, self.cap * self.requests[below])
        return min(self.cap, missing / (self.requests[level] or self.total or 1))

    def ended(self, level: int, now: float, *, accepted: bool) -> None:
        """A call ended: it was accepted, or refused, by the dependency or here."""
        if now >= self._next_part:
            self._turn(now)
        part = self._part
        part.requests[level] += 1
        self.requests[level] += 1
        self.total += 1
        if accepted:
            part.accepts += 1
            self.accepts += 1

    def _turn(self, now: float) -> None:
        """Begin the next part of the window, and forget those that have left it."""
        with self._lock:
            if now < self._next_part:
                return
            self._part = Part(now)
            self._parts.append(self._part)
            while self._parts[0].began <= now - self._window:
                self._parts.popleft()
            self.requests = [
                sum(counts) for counts in zip(*(part.requests for part in self._parts), strict=True)
            ]
            self.total = sum(self.requests)
            self.accepts = sum(part.accepts for part in self._parts)
            self._next_part = now + self._window / PARTS
