"""How a call ended, as a value: what `Pipeline.try_call` gives instead of raising.

For callers to whom a failure is a value among others: a fan-out that collects what came, a health check, code that
must not be left by an exception. A refusal by an open circuit is made and handed over without being raised, which
saves the traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar, cast

from .outcome import Outcome, Verdict

if TYPE_CHECKING:
    from .policy import Site

__all__ = ["Ended"]

T = TypeVar("T")

_SUCCESS: Final = Verdict(Outcome.SUCCESS)


class Ended(Generic[T]):
    """The end of one call. It does not change.

    ``error`` is the exception that `Pipeline.call` would have raised, None where there is none; ``value`` is the
    result, None where there is none. ``ok``: it succeeded. A result that the pipeline's ``is_failure`` judged to be one
    is there as ``value``, without an ``error``, and not ``ok``.
    """

    __slots__ = ("_bad", "_error", "_site", "_value")

    def __init__(
        self, site: Site, value: T | None, error: Exception | None = None, bad: Exception | None = None
    ) -> None:
        self._site = site
        self._value = value
        self._error = error
        self._bad = bad

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self._error is None and self._bad is None

    @property
    def value(self) -> T | None:
        """The result; None where there is none."""
        return self._value

    @property
    def error(self) -> Exception | None:
        """What would have been raised; None where nothing would."""
        return self._error

    @property
    def verdict(self) -> Verdict:
        """What the end means to the pipeline's classifier: success, failure or neutral, and whether to try again."""
        judged = self._error or self._bad
        return _SUCCESS if judged is None else self._site.verdict(judged)

    def unwrap(self) -> T:
        """The result. Raises the error where there is one."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # it keeps the error, which keeps this frame: a cycle
        return cast(T, self._value)

    def __bool__(self) -> NoReturn:
        raise TypeError("the end of a call is neither true nor false; ask for .ok")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ended):
            return NotImplemented
        other = cast("Ended[object]", other)
        return (self._value, self._error, self.ok) == (other._value, other._error, other.ok)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told = repr(self._value) if self._error is None else f"error={self._error!r}"
        return f"Ended({told}{'' if self._bad is None else ', ok=False'})"
