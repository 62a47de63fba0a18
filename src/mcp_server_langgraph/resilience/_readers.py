"""Reading the text of a variable as what a setting is; each raises ValueError for what is not allowed."""

from __future__ import annotations

import importlib
import math
from typing import Any

__all__ = [
    "algorithm",
    "at_least_one",
    "count",
    "exceptions",
    "listeners",
    "nonnegative",
    "part",
    "positive",
    "rate",
    "share",
    "switch",
    "whole",
]


def whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def positive(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value <= 0:
        raise ValueError(text)
    return value


def nonnegative(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(text)
    return value


def at_least_one(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 1:
        raise ValueError(text)
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def part(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError(text)
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


def switch(text: str) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    return known[text.strip().lower()]


def _dotted(path: str) -> Any:
    module, _, name = path.strip().rpartition(".")
    return getattr(importlib.import_module(module or "builtins"), name)


def exceptions(text: str) -> tuple[type[BaseException], ...]:
    kinds = tuple(_dotted(path) for path in text.split(",") if path.strip())
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError(text)
    return kinds


def listeners(text: str) -> tuple[Any, ...]:
    found = tuple(_dotted(path) for path in text.split(",") if path.strip())
    return tuple(item() if isinstance(item, type) else item for item in found)


def algorithm(text: str) -> str:
    name = text.strip().lower()
    if name not in ("aimd", "gradient2", "vegas"):
        raise ValueError(text)
    return name
