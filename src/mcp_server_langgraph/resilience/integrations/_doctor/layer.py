"""A layer that stands around a client, and what it makes of a call's cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...policy import Cost

__all__ = ["Layer", "repeating"]


class Layer(NamedTuple):
    """``attempts``: how often it does what is inside, at most. ``around``: what that makes of a call's cost. ``cure``:
    what to do where it should not retry; "" where it does not (a fallback). ``trap``: what else is wrong with it.
    ``ours``: whether it is a pipeline of this package's. ``hidden``: whether it is inside a client.
    """

    name: str
    attempts: int
    around: Callable[[Cost], Cost]
    cure: str = ""
    trap: str = ""
    ours: bool = False
    hidden: bool = False

    @property
    def label(self) -> str:
        """The name, with the number of attempts where it is more than one."""
        return f"{self.name} x{self.attempts}" if self.attempts > 1 else self.name


def repeating(
    name: str, attempts: int, waits: float, cure: str, trap: str = "", *, hidden: bool = False
) -> Layer:
    """A layer that does what is inside up to ``attempts`` times, with ``waits`` seconds between them in all."""

    def around(inner: Cost) -> Cost:
        return Cost(inner.requests * attempts, inner.seconds * attempts + waits)

    return Layer(name, attempts, around, cure, trap, hidden=hidden)
