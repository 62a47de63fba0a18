"""One caller's waits for a child, and what they tell of it."""

from __future__ import annotations

import asyncio

from .hang import Hang, Moment
from .signs import processor_time

__all__ = ["Watch", "moment"]


class Watch:
    """Begins with a wait. ``pid``: the child's, None where there is none any more."""

    def __init__(self, hang: Hang, pid: int | None) -> None:
        self._hang = hang
        self._pid = pid
        self.waits()

    def waits(self) -> None:
        """The caller waits for the next piece."""
        self._since = moment(self._pid)

    def heard(self) -> None:
        """The piece has come."""
        self._hang.answered(asyncio.get_running_loop().time())

    def given_up(self) -> None:
        """The wait has ended without it."""
        self._hang.given_up(self._since, moment(self._pid))


def moment(pid: int | None) -> Moment:
    """Now."""
    return Moment(asyncio.get_running_loop().time(), None if pid is None else processor_time(pid))
