"""How a guard stands in the fused frame where it is written out: lines of source in place of calls of its methods.

The lines do what ``enter`` and ``succeeded`` do where nothing is out of the ordinary, and leave everything else to the
methods, which stay the reference (`Guard.run`; the tests run both). In them ``$`` stands for the guard's number in the
frame, so that ``places$`` is what the guard put into ``names`` under "places". The frame has ``now`` and ``time``, and
for a guard that asks for them (``task``) ``loop``, ``task`` and ``quick``: True while the task is there, nobody has
asked to cancel it, this is the call's first attempt, and no guard further out had to leave the shortest way.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Lines(NamedTuple):
    """The source of one kind of guard; equal lines make equal frames.

    ``enter`` sets ``token$``, ``success`` ends it; ``token`` is the expression that gives ``failed`` its token.
    ``shut`` is an expression for the seconds during which every call is refused; where nothing that stands outside
    has to act before, the frame looks at it first of all and raises ``refusal$(seconds)``.
    """

    enter: str
    success: str
    token: str = "token$"
    shut: str = ""
    task: bool = False


BY_METHODS: Final = Lines("token$ = enter$(now)", "succeeded$(token$, now)")


class Inline(NamedTuple):
    """The lines, and what their names stand for."""

    lines: Lines
    names: Mapping[str, Any] = _NOTHING
