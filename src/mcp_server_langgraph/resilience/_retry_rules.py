"""What is retried and how often: the kind of operation, limits for classes of errors, and which values are allowed."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._checks import checked, checked_count
from ._http_facts import status_of
from ._machines.backoff import JITTERS
from .errors import ConfigurationError

ErrorMatch = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool]


class Kind(enum.Enum):
    """What kind of operation is retried. It wins over the kind of the error."""

    IDEMPOTENT_READ = "idempotent_read"
    IDEMPOTENT_WRITE = "idempotent_write"
    NON_IDEMPOTENT = "non_idempotent"


def throttled(exc: Exception) -> bool:
    """Whether the dependency says that it has too much to do: HTTP 429, 503 or 529. For `Limit`."""
    return status_of(exc) in (429, 503, 529)


@dataclass(frozen=True, slots=True)
class Limit:
    """How often and how patiently one class of errors is retried, within what is allowed in all.

    ``match``: types of exceptions, or a function that is asked about one. ``max_attempts``: how many attempts of one
    call may fail in this way (>= 1; 1: it is not retried; None: as many as may fail in all). ``multiplier`` and
    ``wait_max``: the first and the longest wait after such an error, in seconds (>= 0; None: the retry's own). With a
    ``multiplier`` of its own the wait grows with the number of these errors only.

    It makes nothing retryable that is not. Raises `ConfigurationError` for values out of range.
    """

    match: ErrorMatch
    max_attempts: int | None = None
    multiplier: float | None = None
    wait_max: float | None = None

    def __post_init__(self) -> None:
        check_attempts("Limit", self.max_attempts)
        check_seconds("Limit", multiplier=self.multiplier, wait_max=self.wait_max)
        if not _can_match(self.match):
            raise ConfigurationError(
                f"Limit: match={self.match!r} must be a type of exceptions, a tuple of them, or a function"
            )

    def matches(self, exc: Exception) -> bool:
        """Whether ``exc`` is of this class."""
        match: Any = self.match
        kinds: Any = match if isinstance(match, type) or not callable(match) else None
        return bool(match(exc)) if kinds is None else isinstance(exc, kinds)


def _can_match(match: Any) -> bool:
    try:
        isinstance(None, match)  # whether it is a type, a tuple or a union of types Python knows best
    except TypeError:
        return callable(match)
    return not isinstance(match, type) or issubclass(match, BaseException)


def first_match(limits: Sequence[Limit], exc: Exception) -> int | None:
    """The number of the first limit that ``exc`` falls under."""
    return next((number for number, limit in enumerate(limits) if limit.matches(exc)), None)


def check_attempts(policy: str, value: object) -> None:
    """Refuse a number of attempts that is none."""
    checked_count(policy, "max_attempts", value, 1)


def check_seconds(policy: str, **values: float | None) -> None:
    """Refuse negative times."""
    for label, value in values.items():
        checked(policy, label, value, "at least 0", ok=value is None or value >= 0)


def check_kind(kind: Kind) -> Kind:
    """Refuse what is no kind of operation."""
    if not isinstance(kind, Kind):  # pyright: ignore[reportUnnecessaryIsInstance] (callers need not be typed)
        allowed = ", ".join(f"Kind.{each.name}" for each in Kind)
        raise ConfigurationError(f"Retry: kind={kind!r} must be one of {allowed}")
    return kind


def check_wait(base: float, jitter: str) -> None:
    """Refuse a base that makes waits shorter, and a jitter that nobody knows."""
    checked("Retry", "base", base, "at least 1", ok=base >= 1)
    if jitter not in JITTERS:
        allowed = ", ".join(f'"{each}"' for each in JITTERS)
        raise ConfigurationError(f"Retry: jitter={jitter!r} must be one of {allowed}")
