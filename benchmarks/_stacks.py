"""What is measured: a way to put policies around a function, and what that way claims to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["ALL_FOUR", "Builder", "Fn", "Guarded", "Job", "Limits", "Stack"]

Fn = Callable[[], Awaitable[Any]]


class Limits(NamedTuple):
    """The settings of every stack. Waits between attempts are zero throughout."""

    attempts: int = 3
    fail_max: int = 5
    limit: int = 10
    seconds: float = 30.0


class Guarded(NamedTuple):
    """A guarded function, and what was counted about it, by the names of the layer's own metrics."""

    call: Fn
    numbers: Callable[[], Mapping[str, float]] = dict
    deadline: Callable[[], float | None] = lambda: None  # the end of the one that the running code inherits


class Job:
    """What a stack can claim to do; `_jobs` checks each."""

    RETRIES = "retries"
    OPENS = "opens"
    CUTS = "cuts"
    LIMITS = "limits"
    COUNTS = "counts"
    INHERITS = "inherits"


ALL_FOUR: Final = frozenset({Job.RETRIES, Job.OPENS, Job.CUTS, Job.LIMITS})

Builder = Callable[[Fn, Limits], Guarded]


class Stack(NamedTuple):
    """A row of the tables."""

    name: str
    build: Builder
    jobs: frozenset[str] = frozenset()
    before: Callable[[], object] | None = None  # done before each sample of a call that succeeds, untimed
