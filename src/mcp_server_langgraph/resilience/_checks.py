"""One way of refusing an argument: it names the policy, the argument, the value and what is allowed."""

from __future__ import annotations

import math
from typing import Any

from .errors import ConfigurationError


def checked(policy: str, label: str, value: Any, allowed: str, *, ok: bool) -> None:
    """Raise `ConfigurationError` for an argument that is given (not None) and not allowed."""
    if value is not None and not ok:
        raise ConfigurationError(f"{policy}: {label}={value!r} must be {allowed}")


def checked_count(policy: str, label: str, value: object, least: int) -> None:
    """The same for what has to be a whole number of at least ``least``."""
    ok = isinstance(value, int) and value >= least
    checked(policy, label, value, f"a whole number of at least {least}", ok=ok)


def checked_time(policy: str, label: str, value: float | None) -> None:
    """The same for seconds above 0, and finite."""
    ok = value is None or 0 < value < math.inf
    checked(policy, label, value, "a number of seconds above 0", ok=ok)


def amount(policy: str, label: str, value: float) -> float:
    """A finite amount of at least 0. Raises `ConfigurationError`."""
    checked(policy, label, value, "a number of at least 0", ok=0 <= value < math.inf)
    return value
