"""CoDel for a line of calls: how long may one wait?

A line that empties now and then absorbs a burst: there one may wait for a whole ``interval``. A line that has not been
empty for that long is a standing queue, which makes everybody late and nothing faster: there one may wait for
``target`` only, and who came last is served first, because who came first has been given up by its caller.

The interval should be about a round trip, the target a twentieth of it, as RFC 8289 (section 4) has it: both are
stretched for dependencies that take longer.

Source: K. Nichols et al., RFC 8289; B. Maurer, "Fail at Scale", ACM Queue 13(8), 2015: controlled delay (5 and 100 ms)
and adaptive LIFO. RFC 8289's law for dropping faster and faster is left out, as there: calls come without a window
that a drop would shrink.
"""

from __future__ import annotations

from typing import Final

# RFC 8289, section 4.3: target is 5 to 10 percent of the interval.
SHARE: Final = 0.05


class CoDel:
    """Whether the line stands, and how long one may wait in it. Seconds."""

    __slots__ = ("_interval", "_round_trip", "_target", "deserted_at", "interval", "standing_since", "target")

    def __init__(self, target: float = 0.005, interval: float = 0.1) -> None:
        self.standing_since: float | None = None
        self.deserted_at: float | None = None
        self._round_trip = 0.0
        self.set(target, interval)

    def set(self, target: float, interval: float) -> None:
        """Change both; they stay stretched."""
        self._target = target
        self._interval = interval
        self.stretch(self._round_trip)

    def stretch(self, round_trip: float) -> None:
        """Fit both to calls that take so long; never below what was set."""
        self._round_trip = round_trip
        self.interval = max(self._interval, round_trip)
        self.target = max(self._target, SHARE * self.interval)

    def came(self, now: float) -> None:
        """Somebody entered the line."""
        deserted = self.deserted_at is not None and now - self.deserted_at > self.interval
        if self.standing_since is None or deserted:
            self.standing_since = now
        self.deserted_at = None

    def emptied(self, now: float, *, served: bool) -> None:
        """The last one has left. A line that all have given up was not served: it stands for another interval."""
        if served:
            self.standing_since = self.deserted_at = None
        elif self.standing_since is not None:
            self.deserted_at = now

    def overloaded(self, now: float) -> bool:
        """Whether the line has not been empty for an interval."""
        if self.standing_since is None:
            return False
        if self.deserted_at is not None and now - self.deserted_at > self.interval:
            return False
        return now - self.standing_since > self.interval

    def budget(self, now: float) -> float:
        """How long one who comes now may wait."""
        return self.target if self.overloaded(now) else self.interval
