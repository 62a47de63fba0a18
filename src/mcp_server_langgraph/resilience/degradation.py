"""An answer that came from a fallback says so, and why.

Whoever wants to know opens a collector; fallbacks inside, child tasks included, add to it.

    with collect_degradations() as notes:
        answer = await agent.run(question)
    if notes: ...   # [Degradation(service="redis", reason="ConnectionError", source="in-memory", age=None)]
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

__all__ = ["Degradation", "collect_degradations", "note_degradation"]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One answer that was not the real one.

    ``service``: whose place was taken. ``reason``: why, as the type of the error. ``source``: what answered instead.
    ``age``: seconds since the answer was good; None where that does not apply.
    """

    service: str
    reason: str
    source: str
    age: float | None = None


_collectors: Final[ContextVar[tuple[list[Degradation], ...]]] = ContextVar(
    "resilience_degradations", default=()
)


@contextmanager
def collect_degradations() -> Generator[list[Degradation]]:
    """Collect what degrades inside the block. Collectors around it hear of it too."""
    notes: list[Degradation] = []
    reset = _collectors.set((*_collectors.get(), notes))
    try:
        yield notes
    finally:
        _collectors.reset(reset)


def note_degradation(service: str, reason: str, source: str, age: float | None = None) -> None:
    """Add a note to the collectors around us, if there are any."""
    collectors = _collectors.get()
    if collectors:
        note = Degradation(service, reason, source, age)
        for notes in collectors:
            notes.append(note)
