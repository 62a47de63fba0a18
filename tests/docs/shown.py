"""Compares what a page shows with what was printed."""

from __future__ import annotations

import re

__all__ = ["as_pattern"]


def as_pattern(shown: str) -> re.Pattern[str]:
    """What a page shows, as a pattern. ``...`` stands for any text in a line, and alone on a line for any lines."""
    return re.compile("".join(map(_line, shown.splitlines(keepends=True))))


def _line(line: str) -> str:
    return r"(?:.*\n)*?" if line == "...\n" else ".*".join(map(re.escape, line.split("...")))
