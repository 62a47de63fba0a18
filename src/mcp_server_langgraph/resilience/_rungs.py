"""The rungs of a fallback: what may answer where the dependency cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _functions
from ._memory import NOTHING, Memory
from .deadline import now
from .errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder.

    ``answer``: a function (``def`` or ``async def``) with the guarded one's arguments. ``source``: what the
    degradation note calls it. ``also``: exception types that it answers for beside unavailability (for example
    `BulkheadFull`). ``with_error``: the error comes as the first argument. ``waits``: it may take time, so it is not
    tried after our own time ran out (default: whether it is asynchronous).
    """

    answer: Callable[..., Any]
    source: str | None = None
    also: tuple[type[BaseException], ...] = ()
    with_error: bool = False
    waits: bool | None = None

    @property
    def label(self) -> str:
        """What the note calls it."""
        return self.source or _functions.qualified_name(self.answer)

    @property
    def takes_time(self) -> bool:
        """Whether it is out of question once our own time ran out."""
        return _functions.kind_of(self.answer) != "sync" if self.waits is None else self.waits


class Value:
    """A rung that always gives the same value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value."""
        return self.value


class LastGood:
    """A rung that gives the last good answer to the same question, up to ``max_age`` seconds old (> 0).

    ``key`` makes the cache key from the arguments (default: the arguments themselves); a call whose key cannot be made
    or hashed is not remembered, which is logged once. ``max_size`` bounds the number of remembered answers, the least
    recently used go first. Memory is this object's. Answers of calls are kept, not those of streams.

    Raises `ConfigurationError` for values out of range.
    """

    def __init__(
        self, max_age: float, *, key: Callable[..., Any] | None = None, max_size: int = 1024
    ) -> None:
        if not max_age > 0 or max_size < 1:
            raise ConfigurationError(
                f"LastGood: max_age={max_age!r} must be above 0, max_size={max_size!r} at least 1"
            )
        self.max_age = max_age
        self._answers = Memory("LastGood", max_size, key)

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, now: float) -> None:
        """Keep a good answer."""
        key = self._answers.key_of(args, kwargs)
        if key is not NOTHING:
            self._answers.put(key, result, now)

    def recall(self, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> tuple[float, Any] | None:
        """The age and the answer; None where there is none that is fresh enough."""
        known = self._answers.get(self._answers.key_of(args, kwargs), now, self.max_age)
        return None if known is None else (known.age, known.value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer, or `NOTHING`."""
        known = self.recall(args, kwargs, now())
        return NOTHING if known is None else known[1]
