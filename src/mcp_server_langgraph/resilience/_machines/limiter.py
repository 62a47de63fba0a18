"""A limit that moves: the places, the line before them, and the algorithm that is fed with what calls told.

It puts `places`, `admission_queue`, `samples` and an algorithm together, still without a clock. Calls on the success
path take no lock; the thread that finds a window full closes it, while others go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from .admission_queue import AdmissionQueue, Entry
from .aimd import AIMD
from .gradient import Gradient2
from .places import Places
from .samples import Algorithm, SampleWindow
from .shares import Shares
from .vegas import Vegas

logger: Final = logging.getLogger("mcp_server_langgraph.resilience")

ALGORITHMS: Final[Mapping[str, Callable[[float, int, int], Algorithm]]] = {
    "aimd": AIMD,
    "gradient2": Gradient2,
    "vegas": Vegas,
}


class Options(NamedTuple):
    """The settings of a limiter; the algorithm by name, or an object of the user's."""

    algorithm: str | Algorithm
    initial: int
    least: int
    most: int
    max_queue: int | None
    target: float
    interval: float

    def make(self, initial: float) -> Algorithm:
        """The algorithm, beginning at ``initial`` unless it is the user's."""
        if isinstance(self.algorithm, str):
            return ALGORITHMS[self.algorithm](initial, self.least, self.most)
        self.algorithm.bound(self.least, self.most)
        return self.algorithm


class Limiter:
    """Places whose number follows an algorithm. ``chance`` gives numbers in [0, 1)."""

    def __init__(self, options: Options, shares: Shares, chance: Callable[[], float]) -> None:
        self.options = options
        self.algorithm = options.make(options.initial)
        self.window = SampleWindow()
        self.shares = shares
        limit = max(1, int(self.algorithm.limit))
        self.line = AdmissionQueue(shares, limit)
        self.codels = tuple(lane.codel for lane in self.line.lanes)
        self._set_codels(options)
        self.places: Places[Entry] = Places(limit, self.line)
        self._chance = chance
        self._closing = threading.Lock()

    @property
    def max_queue(self) -> int:
        """How many may wait now."""
        room = self.options.max_queue
        return self.places.limit if room is None else room

    @property
    def longest_wait(self) -> float:
        """Seconds that one may wait now at the most."""
        return self.codels[0].interval

    def is_full(self) -> bool:
        """Whether one who comes now would have to wait."""
        return not self.places.free

    def change(self, options: Options, now: float) -> None:
        """Take over other settings; the limit, what was learnt, and calls in flight stay where they can."""
        before, self.options = self.options, options
        if options.algorithm is before.algorithm or options.algorithm == before.algorithm:
            self.algorithm.bound(options.least, options.most)
        else:
            self.algorithm = options.make(self.algorithm.limit)
        self._set_codels(options)
        self._resize(now)

    def answered(self, began: float, now: float) -> None:
        """A call that held a place was answered: a sample."""
        places = self.places
        in_flight = places.limit + places.debt - len(places.free)
        if self.window.answer(now - began, in_flight, now):
            self._learn(now)

    def dropped(self, now: float) -> None:
        """A call that held a place was cut or turned away as overload."""
        places = self.places
        if self.window.drop(places.limit + places.debt - len(places.free), now):
            self._learn(now)

    def _set_codels(self, options: Options) -> None:
        for codel in self.codels:
            codel.set(options.target, options.interval)

    def _learn(self, now: float) -> None:
        """Close the window, and move the limit. An algorithm that raises leaves the limit as it is."""
        if not self._closing.acquire(blocking=False):
            return
        try:
            observed = self.window.close(now, self._chance())
            if observed.round_trip is not None:
                for codel in self.codels:
                    codel.stretch(observed.round_trip)
            self.algorithm.update(observed)
            self._resize(now)
        except Exception:
            logger.exception(
                "the algorithm of an adaptive limit raised; the limit stays %d", self.places.limit
            )
        finally:
            self._closing.release()

    def _resize(self, now: float) -> None:
        limit = max(1, int(self.algorithm.limit))
        if limit != self.places.limit:
            self.line.limit = limit
            self.places.resize(limit, now)
