"""The machine of single-flight: of all who ask the same thing at once, one asks and the others wait. Pure.

A *flight* is one question under way. Who finds none leads it; who comes later waits. A leader who gives up hands over
to the one who has most time left, of equals to the one who has waited longest, so that there is never more than one of
them, and never nobody while somebody waits. (The one who has waited longest would often have hardly any time left, and
the next one hardly more: a dependency that hangs would be asked by one after the other, and never for long enough to be
found out.) An answer (or an error) ends the flight for all.

Source: golang.org/x/sync/singleflight, where the leader's cancellation fails everybody who waits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who")


class Flight(Generic[Who]):
    """One question under way: who asks, and who waits (in the order in which they came), each until when."""

    __slots__ = ("key", "leader", "waiting")

    def __init__(self, key: Hashable, leader: Who) -> None:
        self.key = key
        self.leader: Who | None = leader
        self.waiting: dict[Who, float] = {}


class Flights(Generic[Who]):
    """Every question under way. To be used in one thread."""

    __slots__ = ("_current",)

    def __init__(self) -> None:
        self._current: dict[Hashable, Flight[Who]] = {}

    def __len__(self) -> int:
        return len(self._current)

    def under_way(self, key: Hashable) -> Flight[Who] | None:
        """The flight that asks this now."""
        return self._current.get(key)

    def board(self, key: Hashable, who: Who, until: float = math.inf) -> Flight[Who]:
        """Join the flight, or lead a new one (then ``leader`` is ``who``). ``until``: when ``who`` will give up."""
        flight = self._current.get(key)
        if flight is None:
            flight = self._current[key] = Flight(key, who)
        else:
            flight.waiting[who] = until
        return flight

    def gave_up(self, flight: Flight[Who], who: Who) -> Who | None:
        """``who`` left before there was an answer. Gives the one who leads now and has to be told; None: nobody has."""
        if flight.leader is not who:
            flight.waiting.pop(who, None)
            return None
        flight.leader = max(flight.waiting, key=flight.waiting.__getitem__, default=None)
        if flight.leader is None:
            self._over(flight)
            return None
        del flight.waiting[flight.leader]
        return flight.leader

    def landed(self, flight: Flight[Who]) -> tuple[Who, ...]:
        """There is an answer: everybody who waits for it, and the flight is over."""
        waiting = tuple(flight.waiting)
        flight.waiting.clear()
        self._over(flight)
        return waiting

    def _over(self, flight: Flight[Who]) -> None:
        if self._current.get(flight.key) is flight:
            del self._current[flight.key]


def own_copy(exc: Exception) -> Exception:
    """A copy for somebody else to raise: with one object for all, notes and tracebacks of one caller would show up in
    the other's. Gives ``exc`` itself where no faithful copy can be made (a constructor that takes something else).
    """
    try:
        twin = copy.copy(exc)
        if type(twin) is not type(exc) or twin.args != exc.args:
            return exc
        if hasattr(twin, "__notes__"):
            twin.__notes__ = list(twin.__notes__)
    except Exception:
        return exc
    twin.__cause__, twin.__context__ = exc.__cause__, exc.__context__
    twin.__suppress_context__ = exc.__suppress_context__
    return twin.with_traceback(exc.__traceback__)
