"""Interleaved sampling of process CPU time.

Every round takes one sample of every case, in a new order, so that whatever disturbs the machine disturbs all alike.
CPU time of the process does not count the time in which other processes run; what they do to caches and clock rates
remains, so read ratios, and differences under a fifth as noise.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

__all__ = ["Case", "Measured", "measure"]

# Calls before anything is timed: the interpreter specialises hot code, and caches fill.
WARM_UP: Final = 300


class Case(NamedTuple):
    """One cell of a table. ``sample(n)`` makes n calls; ``calls``: how many make a sample (None: by their length);
    ``every``: in which rounds it takes part; ``before``: what is done before each sample, untimed.
    """

    table: str
    name: str
    sample: Callable[[int], Awaitable[None]]
    calls: int | None = None
    every: int = 1
    before: Callable[[], object] | None = None


class Measured(NamedTuple):
    """CPU nanoseconds per call, a value for each sample."""

    case: Case
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def min(self) -> float:
        return min(self.samples)


async def measure(cases: Sequence[Case], *, rounds: int, sample_ms: float) -> list[Measured]:
    """Measure all cases side by side; progress goes to stderr."""
    calls = [await _calls_of(case, sample_ms) for case in cases]
    samples: list[list[float]] = [[] for _ in cases]
    order = list(range(len(cases)))
    gc.collect()
    gc.freeze()
    for done in range(rounds):
        _progress(done, rounds, len(cases))
        random.Random(done).shuffle(order)
        for index in [index for index in order if done % cases[index].every == 0]:
            samples[index].append(await _sample(cases[index], calls[index]))
    _progress(rounds, rounds, len(cases))
    gc.unfreeze()
    return [Measured(case, tuple(values)) for case, values in zip(cases, samples, strict=True)]


async def _calls_of(case: Case, sample_ms: float) -> int:
    if case.calls is not None:
        await case.sample(case.calls)
        return case.calls
    await case.sample(WARM_UP)
    per_call = min([await _sample(case, WARM_UP) for _ in range(3)])
    return max(10, round(sample_ms * 1e6 / per_call))


async def _sample(case: Case, calls: int) -> float:
    if case.before is not None:
        case.before()
    began = time.process_time_ns()
    await case.sample(calls)
    return (time.process_time_ns() - began) / calls


def _progress(done: int, rounds: int, cases: int) -> None:
    if done == rounds or done % max(1, rounds // 10) == 0:
        print(f"round {done} of {rounds}, {cases} cases each", file=sys.stderr, flush=True)
