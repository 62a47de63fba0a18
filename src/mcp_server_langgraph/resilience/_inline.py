"""How a guard stands in the fused frame where it is written out: lines of source in place of calls of its methods.

The lines do what ``enter`` and ``succeeded`` do where nothing is out of the ordinary, and leave everything else to the
methods, which stay the reference (`Guard.run`; the tests run both). In them ``$`` stands for the guard's number in the
frame, so that ``places$`` is what the guard put into ``names`` under "places"; ``$arguments`` are the call's, as
`Guard.enter_with` wants them. The frame has ``now`` and ``time``, and
for a guard that asks for them (``task``) ``loop``, ``task`` and ``quick``: True while the task is there, nobody has
asked to cancel it, nothing has been waited for, and this is the call's first attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Lines(NamedTuple):
    """The source of one kind of guard; equal lines make equal frames.

    ``enter`` sets ``token$``, ``success`` ends it; ``token`` is the expression that gives ``failed`` its token.
    ``refusal`` is an expression for what to raise where every call is refused now, else None; where nothing that stands
    outside has to act before, the frame looks at it first of all.
    """

    enter: str
    success: str
    token: str = "token$"
    refusal: str = ""
    task: bool = False


BY_METHODS: Final = Lines("token$ = enter$(now)", "succeeded$(token$, now)")


class Inline(NamedTuple):
    """The lines, and what their names stand for."""

    lines: Lines
    names: Mapping[str, Any] = _NOTHING
