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


_notes: Final[ContextVar[list[Degradation] | None]] = ContextVar("resilience_degradations", default=None)


@contextmanager
def collect_degradations() -> Generator[list[Degradation]]:
    """Collect what degrades inside the block. An inner collector hands its notes on to the one around it."""
    outer = _notes.get()
    notes: list[Degradation] = []
    reset = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(reset)
        if outer is not None:
            outer.extend(notes)


def note_degradation(service: str, reason: str, source: str, age: float | None = None) -> None:
    """Add a note to the collector around us, if there is one."""
    notes = _notes.get()
    if notes is not None:
        notes.append(Degradation(service, reason, source, age))
