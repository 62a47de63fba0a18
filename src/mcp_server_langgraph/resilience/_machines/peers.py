"""Who is alive among those that write reports to a common place, told by nobody's clock but our own.

Every report carries a number that grows. One that has not grown says nothing: its writer may be dead for hours, and the
place may have lost, kept or brought back anything (a Redis that failed over to a replica behind, or was restored from
yesterday's file). So a peer is believed once its number was seen to grow between two looks at most a *lease* apart,
and for one lease from each such look on. After a gap, of the peer or of ours, it begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FORGOTTEN_AFTER", "Peers"]

# Leases after which a peer that stopped growing is forgotten and its report removed. Long enough that nobody removes
# what a slow writer is about to renew, short enough that the place does not fill up with restarts.
FORGOTTEN_AFTER: Final = 20.0


class _Peer:
    __slots__ = ("alive_until", "grown_at", "number")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.grown_at = now
        self.alive_until = now


class Peers:
    """The peers by name. ``lease``: seconds that a report is good for."""

    __slots__ = ("_known", "lease")

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._known: dict[str, _Peer] = {}

    def look(self, numbers: Mapping[str, int], now: float) -> dict[str, bool]:
        """The numbers as they are now. Gives whose have grown or are new, and whether they are believed."""
        news: dict[str, bool] = {}
        for name, number in numbers.items():
            peer = self._known.get(name)
            if peer is None:
                self._known[name] = _Peer(number, now)
                news[name] = False
            elif number > peer.number:
                news[name] = believed = now - peer.grown_at <= self.lease
                peer.number, peer.grown_at = number, now
                if believed:
                    peer.alive_until = now + self.lease
        return news

    def alive(self, now: float) -> int:
        """How many are believed."""
        return sum(now < peer.alive_until for peer in self._known.values())

    def forget(self, now: float) -> list[str]:
        """Forget those that stopped growing long ago; gives their names, as their reports can be removed."""
        gone = [
            name for name, peer in self._known.items() if now - peer.grown_at > FORGOTTEN_AFTER * self.lease
        ]
        for name in gone:
            del self._known[name]
        return gone
