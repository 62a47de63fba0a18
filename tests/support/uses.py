"""Which components the tests of this run used, how long each took to start, and which were missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["USES", "Use", "as_plain", "merge", "note_missing", "note_start", "note_use"]


@dataclass
class Use:
    """Of one component: `starts` in seconds, `tests` and `missed_by` as node ids."""

    starts: list[float] = field(default_factory=list)
    tests: set[str] = field(default_factory=set)
    missed_by: set[str] = field(default_factory=set)


USES: dict[str, Use] = {}
"""By the component's name."""


def note_use(name: str) -> None:
    """The running test uses it."""
    _of(name).tests |= _running_test()


def note_start(name: str, seconds: float) -> None:
    """It answered so long after it was started."""
    _of(name).starts.append(round(seconds, 3))


def note_missing(name: str) -> None:
    """The running test would have used it."""
    _of(name).missed_by |= _running_test()


def as_plain() -> dict[str, dict[str, list[Any]]]:
    """All of it, for another process."""
    return {
        name: {"starts": use.starts, "tests": sorted(use.tests), "missed_by": sorted(use.missed_by)}
        for name, use in USES.items()
    }


def merge(plain: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """Add what another process has noted."""
    for name, noted in plain.items():
        use = _of(name)
        use.starts += noted["starts"]
        use.tests |= set(noted["tests"])
        use.missed_by |= set(noted["missed_by"])


def _of(name: str) -> Use:
    return USES.setdefault(name, Use())


def _running_test() -> set[str]:
    node, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")
    return {node} if node else set()
