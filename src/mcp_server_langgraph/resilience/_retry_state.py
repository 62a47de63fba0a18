"""What a stop, wait or retry strategy is asked about. It has the attributes of ``tenacity.RetryCallState``, so that
tenacity's objects are accepted as they are; it is built on the failure path only, anew for each attempt (so it has no
``idle_for``: nothing is kept between attempts).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .policy import BadResult


class Outcome:
    """The result or the exception of one attempt, with the face of tenacity's ``Future``."""

    __slots__ = ("_exception", "_result", "attempt_number")

    def __init__(self, attempt_number: int, exception: BaseException | None, result: Any = None) -> None:
        self.attempt_number = attempt_number
        self._exception = exception
        self._result = result

    @property
    def failed(self) -> bool:
        """Whether the attempt raised."""
        return self._exception is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it raised; None where it gave a result."""
        return self._exception

    def result(self, timeout: float | None = None) -> Any:
        """What it gave; raises what it raised."""
        if self._exception is not None:
            raise self._exception
        return self._result


class RetryState:
    """One failed attempt. Times are seconds on the clock of the call."""

    __slots__ = (
        *("args", "attempt_number", "fn", "kwargs", "outcome"),
        *("outcome_timestamp", "retry_object", "start_time", "upcoming_sleep"),
    )

    def __init__(
        self,
        retry_object: Any,
        fn: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        attempt_number: int,
        start_time: float,
        now: float,
        exc: BaseException | None,
    ) -> None:
        self.retry_object = retry_object
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.attempt_number = attempt_number
        self.start_time = start_time
        self.outcome_timestamp = now
        if isinstance(exc, BadResult):
            self.outcome = Outcome(attempt_number, None, exc.result)
        else:
            self.outcome = Outcome(attempt_number, exc)
        self.upcoming_sleep = 0.0

    @classmethod
    def of_result(cls, result: Any) -> RetryState:
        """The state of an attempt that gave ``result``."""
        return cls(None, None, (), {}, 1, 0.0, 0.0, BadResult(result))

    @property
    def seconds_since_start(self) -> float:
        """Seconds from the beginning of the call to the end of this attempt."""
        return self.outcome_timestamp - self.start_time


def only_exceptions(predicate: Any) -> bool:
    """Whether a tenacity retry object can never want another attempt because of a *result*, so that the success path
    need not ask it. False for what tenacity did not write, and for its classes that want other results too
    (``retry_unless_exception_type`` and ``retry_if_not_exception_message`` have a ``__call__`` of their own).
    """
    asked = next((base for base in type(predicate).__mro__ if "__call__" in vars(base)), None)
    if asked is None or asked.__module__.partition(".")[0] != "tenacity":
        return False
    if asked.__name__ in ("retry_any", "retry_all"):
        return all(only_exceptions(part) for part in predicate.retries)
    return asked.__name__ in ("retry_if_exception", "retry_if_exception_cause_type", "_retry_never")
