"""What replicas write to each other: a number that grows, and facts, which are names and numbers and nothing else.

A report is ``<number> {"breaker:search": [3, 27.5, 0], ...}``. Times are seconds left, never moments: nobody's clock is
trusted. Whatever cannot be read, or is more than a fact can be, makes the whole report unreadable (`BadReport`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn, cast

__all__ = ["LONGEST_NAME", "BadReport", "Fact", "facts_of", "number_of", "written"]

Fact = tuple[float, ...]

LONGEST_NAME: Final = 200
# Far above what a process has to say, far below what would keep the loop busy.
LARGEST_REPORT: Final = 1 << 20
MOST_NUMBERS: Final = 32
LARGEST_NUMBER: Final = 1e15
_NUMBERS: Final = (float, int)  # a bool is neither
# To a tenth of a millisecond, or of a token.
_DIGITS: Final = 4


class BadReport(ValueError):
    """A report that cannot be read."""


def written(number: int, facts: Mapping[str, Fact]) -> bytes:
    """The report as bytes."""
    rounded = {name: [round(value, _DIGITS) for value in fact] for name, fact in facts.items()}
    return f"{number} {json.dumps(rounded, separators=(',', ':'))}".encode()


def number_of(report: bytes | str) -> int:
    """Its number. Raises `BadReport`."""
    if len(report) > LARGEST_REPORT:
        raise BadReport("too large")
    head = report[:20]
    digits = (head if isinstance(head, str) else head.decode("latin-1")).partition(" ")[0]
    if not (digits.isascii() and digits.isdigit()):
        raise BadReport("no number")
    return int(digits)


def facts_of(report: bytes | str) -> dict[str, Fact]:
    """Its facts. Raises `BadReport`."""
    try:
        text = report if isinstance(report, str) else report.decode()
        read = _decode(text.partition(" ")[2])
    except (ValueError, RecursionError) as exc:
        raise BadReport("not readable") from exc
    if not isinstance(read, dict):
        raise BadReport("no facts")
    return {name: _fact(name, value) for name, value in cast("dict[str, Any]", read).items()}


def _fact(name: str, value: Any) -> Fact:
    # A hundred replicas are read five times a second: this is the place to be quick.
    if type(value) is not list or len(name) > LONGEST_NAME:
        raise BadReport("no fact")
    numbers = cast("list[int | float]", value)
    if len(numbers) > MOST_NUMBERS:
        raise BadReport("too many numbers")
    for each in numbers:
        if type(each) not in _NUMBERS or not 0 <= each < LARGEST_NUMBER:
            raise BadReport("no number, or one out of range")
    return tuple(numbers)


def _refuse(constant: str) -> NoReturn:
    raise BadReport(constant)


_decode: Final = json.JSONDecoder(parse_constant=_refuse).decode
