"""What a run of a cell must have found, by the table of expectations."""

from __future__ import annotations

from typing import Final

from tests.faults.cell import Seen
from tests.faults.expected import Cell

__all__ = ["differences"]

BUSY: Final = 3.0
"""Seconds that a busy test machine may add to any bound."""


def differences(seen: Seen, expected: Cell, *, flapping: bool) -> list[str]:
    """A line for each thing that is not as expected."""
    found: list[str] = []
    others = {"whole", expected.known, expected.new, expected.later} if flapping else set()
    for caller in ("known", "new", "later"):
        got, due = getattr(seen, caller), getattr(expected, caller)
        if not _same(got, due) and got not in others:
            found.append(f"{caller}: {got!r} instead of {due!r}")
    if not flapping and seen.opened != (expected.breaker == "opens"):
        found.append(f"the breaker {'opened' if seen.opened else 'stayed closed'}")
    least, most = (0 if flapping else expected.attempts[0]), expected.attempts[1]
    if not least <= seen.attempts <= min(most, seen.promised):
        found.append(f"{seen.attempts} attempts, not {least} to {most} of {seen.promised} promised")
    # What is on its way when the port closes is lost unseen.
    arrived = 0 if flapping else seen.attempts - seen.silent
    if not arrived <= seen.requests <= seen.attempts + seen.probes:
        found.append(f"{seen.requests} requests on the wire for {seen.attempts} attempts")
    if seen.seconds > expected.within + BUSY:
        found.append(f"a call took {seen.seconds:.2f} s")
    if seen.recovery > expected.recovers + BUSY:
        found.append(f"whole again only after {seen.recovery:.2f} s")
    return found


def _same(got: str, due: str) -> bool:
    return got.startswith(due[:-1]) if due.endswith("…") else got == due
