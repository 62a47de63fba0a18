"""What is wrong with one way to a client, what it can cost, and what to set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...policy import Cost
from .layer import Layer

__all__ = ["Diagnosis", "Report", "diagnosed"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One way to one client.

    ``path``: the layers from the outside, and the client. ``requests``: the most that one call can make. ``seconds``:
    how long one call can take of a service that has gone silent, with the waits between attempts (infinity: nothing
    ends it; a Retry-After that a client heeds may add to it). ``problems`` and ``advice``: empty where all is well.
    """

    path: tuple[str, ...]
    requests: int
    seconds: float
    problems: tuple[str, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        requests = f"{self.requests} request{'s' if self.requests > 1 else ''}"
        lines = [" > ".join(self.path), f"    {requests}, {_time(self.seconds)}"]
        lines += [f"    ! {problem}" for problem in self.problems]
        lines += [f"    -> {advice}" for advice in self.advice]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Report:
    """Every way to every client that was found, the worst first; and what could not be looked at (``unseen``)."""

    diagnoses: tuple[Diagnosis, ...]
    unseen: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Diagnosis, ...]:
        """Those with which something is wrong."""
        return tuple(diagnosis for diagnosis in self.diagnoses if diagnosis.problems)

    @property
    def healthy(self) -> bool:
        """Whether all was seen, and nothing is wrong."""
        return not (self.problems or self.unseen)

    def __str__(self) -> str:
        found = f"{len(self.diagnoses)} way{'' if len(self.diagnoses) == 1 else 's'} to clients found"
        unseen = [f"not seen: {each}" for each in self.unseen]
        return "\n".join([*map(str, self.diagnoses), *unseen, f"{found}, {len(self.problems)} with problems"])


def diagnosed(layers: Sequence[Layer], cost: Cost, patience: str, patient: float) -> Diagnosis:
    """The verdict on ``layers``, outermost first, for a call that costs ``cost`` at most. ``patience``: how to be less
    patient. ``patient``: the most seconds that are no problem.
    """
    problems: list[str] = []
    advice: list[str] = []
    for problem, cure in [*_retries(layers), *_slowness(cost, patience, patient)]:
        problems.append(problem)
        advice += [cure] if cure else []
    problems += [layer.trap for layer in layers if layer.trap]
    path = tuple(layer.label for layer in layers if layer.label)
    return Diagnosis(path, cost.requests, cost.seconds, tuple(problems), tuple(advice))


def _retries(layers: Sequence[Layer]) -> Iterator[tuple[str, str]]:
    retrying = [layer for layer in layers if layer.attempts > 1 and layer.cure]
    if len(retrying) > 1:
        kept = _one_to_keep(retrying)
        cures = "; ".join(layer.cure for layer in retrying if layer is not kept)
        product = " x ".join(str(layer.attempts) for layer in retrying)
        yield f"stacked retries: {product}", f"let one layer retry ({kept.name}): {cures}"
    elif retrying and retrying[0].hidden:
        yield "hidden retries, which know no budget, no deadline and no breaker", retrying[0].cure


def _one_to_keep(retrying: Sequence[Layer]) -> Layer:
    """Our own pipeline, else the innermost that is not hidden in the client: it repeats least, and can be seen."""
    pipelines = [layer for layer in retrying if layer.ours]
    seen = [layer for layer in retrying if not layer.hidden]
    return (pipelines or seen or retrying)[-1]


def _slowness(cost: Cost, advice: str, patient: float) -> Iterator[tuple[str, str]]:
    if math.isinf(cost.seconds) and math.isfinite(patient):
        yield "no timeout", advice
    elif cost.seconds > patient:
        yield f"takes more than {patient:g} s", advice


def _time(seconds: float) -> str:
    return "no end" if math.isinf(seconds) else f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"
