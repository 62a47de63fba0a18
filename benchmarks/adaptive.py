"""Goodput under overload of the adaptive limit's machines.

    python -m benchmarks.adaptive > benchmarks/results/adaptive.md

A simulation without a loop: eight workers, exponential service of 10 ms (800 calls a second), Poisson arrivals,
callers that give up after 200 ms while the workers do not notice. Goodput is what was served in time, as a part of
the capacity. The limiter is the real one (`_machines.limiter.Limiter`: places, line, windows, algorithm), driven by
the simulation's clock. It takes some minutes.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
from collections import deque
from collections.abc import Callable
from typing import Final

from mcp_server_langgraph.resilience._machines import samples
from mcp_server_langgraph.resilience._machines.admission_queue import Entry
from mcp_server_langgraph.resilience._machines.limiter import Limiter, Options
from mcp_server_langgraph.resilience._machines.shares import Shares

from ._report import table

WORKERS: Final = 8
RATE: Final = 100.0
DEADLINE: Final = 0.2
SEEDS: Final = 20
LOADS: Final = (0.95, 1.2, 2.0, 4.0)
WARM_UP: Final = 3.0
UNTIL: Final = 8.0
LEVEL: Final = 2


class EachSample(samples.SampleWindow):
    """No window: every sample is looked at by itself."""

    def answer(self, round_trip: float, in_flight: int, now: float) -> bool:
        super().answer(round_trip, in_flight, now)
        return True

    def drop(self, in_flight: int, now: float) -> bool:
        super().drop(in_flight, now)
        return True


class Caller:
    """One call: in the line, at work, or gone."""

    share = None
    level = LEVEL
    late = "late"

    def __init__(self, simulation: Simulation, end: float) -> None:
        self.simulation = simulation
        self.arrived = simulation.now
        self.end = end
        self.began = 0.0
        self.why: str | None = None

    def wake(self) -> bool:
        self.simulation.begin(self)
        return True

    def turn_away(self, why: str) -> None:
        self.why = why


class Simulation:
    """One run."""

    def __init__(self, load: float, seed: int, limiter: Limiter | None, *, drops: bool = True) -> None:
        self.chance = random.Random(seed)
        self.arrivals = WORKERS * RATE * load
        self.limiter = limiter
        self.drops = drops
        self.now = 0.0
        self.idle = WORKERS
        self.queue: deque[Caller] = deque()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.number = itertools.count()
        self.good: list[float] = []

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.number), do))

    def run(self, until: float, warm_up: float) -> float:
        self.arrive()
        while self.events[0][0] <= until:
            self.now, _, do = heapq.heappop(self.events)
            do()
        return sum(when > warm_up for when in self.good) / (until - warm_up) / WORKERS / RATE

    def arrive(self) -> None:
        self.at(self.now + self.chance.expovariate(self.arrivals), self.arrive)
        limiter = self.limiter
        if limiter is None:
            self.begin(Caller(self, 0.0))
            return
        end = min(self.now + DEADLINE, self.now + limiter.codels[LEVEL].budget(self.now))
        caller: Entry = Caller(self, end)
        if limiter.places.enqueue(caller, limiter.max_queue, self.now):
            self.at(end, lambda: limiter.places.withdraw(caller, self.now) and None)

    def begin(self, caller: Caller) -> None:
        caller.began = self.now
        self.queue.append(caller)
        self.serve()

    def serve(self) -> None:
        while self.idle and self.queue:
            self.idle -= 1
            caller = self.queue.popleft()
            self.at(self.now + self.chance.expovariate(RATE), lambda caller=caller: self.end(caller))  # type: ignore[misc]

    def end(self, caller: Caller) -> None:
        self.idle += 1
        late = self.now - caller.arrived > DEADLINE
        if not late:
            self.good.append(self.now)
        if self.limiter is not None:
            if late and self.drops:
                self.limiter.dropped(self.now)
            else:
                self.limiter.answered(caller.began, self.now)
            self.limiter.places.give_back(self.now)
        self.serve()


def limiter(
    algorithm: str, initial: int = 20, most: int = 200, *, windows: bool = True
) -> Callable[[int], Limiter]:
    """What makes one for a seed."""
    options = Options(algorithm, initial, 1, most, None, 0.005, 0.1)

    def make(seed: int) -> Limiter:
        made = Limiter(options, Shares(4, {}), random.Random(seed).random)
        if not windows:
            made.window = EachSample()
        return made

    return make


def interval(values: list[float]) -> str:
    """The mean with its 95 % interval."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


CASES: Final[dict[str, tuple[Callable[[int], Limiter | None], bool]]] = {
    "no limit": (lambda seed: None, True),
    "fixed 16, the right guess": (limiter("aimd", 16, 16), True),
    "Gradient2 (the default)": (limiter("gradient2"), True),
    "Vegas": (limiter("vegas"), True),
    "Gradient2, no window": (limiter("gradient2", windows=False), True),
    "Gradient2, no window, drops not counted": (limiter("gradient2", windows=False), False),
    "Vegas, no window": (limiter("vegas", windows=False), True),
}


def row(name: str) -> list[str]:
    """One line of the first table."""
    make, drops = CASES[name]
    cells = []
    for load in LOADS:
        runs = [Simulation(load, seed, make(seed), drops=drops).run(UNTIL, WARM_UP) for seed in range(SEEDS)]
        cells.append(interval(runs))
    return [name, *cells]


def long_rows() -> list[list[str]]:
    found = []
    for name, algorithm, drops in (
        ("Gradient2 (the default)", "gradient2", True),
        ("Gradient2, drops not counted", "gradient2", False),
        ("Vegas", "vegas", True),
    ):
        run = Simulation(1.2, 0, limiter(algorithm)(0), drops=drops).run(1500.0, 1200.0)
        found.append([name, f"{run:.3f}"])
    return found


if __name__ == "__main__":
    print("# Goodput under overload\n")
    print(f"Means of {SEEDS} seeds with their 95 % intervals, by load, over {UNTIL - WARM_UP:g} s", end=" ")
    print(f"after {WARM_UP:g} s of warm-up.\n")
    print(table(["", *(f"{load:g}" for load in LOADS)], [row(name) for name in CASES]))
    print("\nAfter 20 minutes at 1.2 times the capacity, one seed:\n")
    print(table(["", "goodput"], long_rows()))
