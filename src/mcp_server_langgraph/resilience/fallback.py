"""Fallback: where the dependency cannot answer, something less good may, and says so.

A ladder of rungs, tried in order: a function with the same arguments, a fixed `Value`, the `LastGood` value with its
age. Only for unavailability (`outcome.Verdict.unavailable`): never for bugs, client errors, cancellation or a deadline
that the caller set. An open circuit falls back; the layer's other rejections (full, limited, shed) only where a rung
says so. After our own time ran out only rungs that do not wait are tried.

It stands outermost in a pipeline: further in, its answers would count as successes of the dependency.

Errors: the original one, where no rung has an answer. Events: ``fallback``, ``fallback_failed``. Metrics:
``fallback_*``; and `degradation.collect_degradations` hears of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from . import _functions, _stack
from ._ladder import Ladder
from ._memory import NOTHING as NOTHING
from ._rungs import LastGood, Rung, Value
from .deadline import now
from .errors import ConfigurationError
from .policy import Policy, Site

__all__ = ["Fallback", "LastGood", "Rung", "Value", "with_fallback"]

F = TypeVar("F", bound=Callable[..., Any])


class Fallback(Policy):
    """A ladder of rungs: functions, `Value`, `LastGood`, or `Rung` for the details.

    ``also``: exception types that every rung answers for beside unavailability. Around an async generator a rung gives
    a stream, or one value that is then the only item.

    Raises `ConfigurationError` without rungs, or for one that cannot be called.
    """

    kind: ClassVar[str] = Ladder.kind

    def __init__(self, *rungs: Rung | Callable[..., Any], also: tuple[type[BaseException], ...] = ()) -> None:
        if not rungs:
            raise ConfigurationError("Fallback: at least one rung is needed")
        self.rungs = tuple(rung if isinstance(rung, Rung) else Rung(rung) for rung in rungs)
        for rung in self.rungs:
            if not callable(rung.answer):
                raise ConfigurationError(
                    f"Fallback: {rung.answer!r} is no function; a fixed answer is a Value"
                )
        self.also = also
        self._memories = [rung.answer for rung in self.rungs if isinstance(rung.answer, LastGood)]

    @property
    def refuses_sync(self) -> str | None:
        """Why it cannot guard a plain function; None where it can."""
        waiting = [rung.label for rung in self.rungs if _functions.kind_of(rung.answer) != "sync"]
        return f"its rung {waiting[0]} is asynchronous" if waiting else None

    def settings(self) -> dict[str, Any]:
        """The rungs, by name."""
        return {"rungs": [rung.label for rung in self.rungs]}

    def bind(self, site: Site) -> Policy:
        """The ladder of one pipeline."""
        return Ladder(self, site)

    def remember(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Give a good answer to the rungs that keep one."""
        for memory in self._memories:
            memory.remember(args, kwargs, result, now())


def with_fallback(*rungs: Rung | Callable[..., Any], **options: Any) -> Callable[[F], F]:
    """Decorate a function with a ladder of fallbacks (see `Fallback`); it belongs on top of a stack."""

    def decorate(fn: F) -> F:
        return _stack.add(Fallback(*rungs, **options), fn)

    return decorate
