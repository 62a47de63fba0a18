"""Our errors, as the errors of the library below: whoever waits for the library's finds them, whoever for ours too.

An SDK turns the transport errors of its HTTP library into its own, and lets all else through as it is. So an open
circuit must *be* a transport error there, and still be `CircuitOpen` for our own policies further up.
"""

from __future__ import annotations

from typing import Any, cast

from ...errors import DeadlineExceeded, ResilienceError, TimedOut

__all__ = ["Fitting"]


class _Fitted:
    _request: Any = None  # where httpx keeps the request, which its client sets

    def __reduce__(self) -> tuple[Any, ...]:
        ours, error = type(self).__mro__[2], cast(Any, self)
        return ours, error.args  # another process may not have the library


class Fitting:
    """Makes our errors fit a library that has these two classes: of errors of the transport, and of timeouts."""

    def __init__(self, transport: type[Exception], timeout: type[Exception]) -> None:
        self._transport = transport
        self._timeout = timeout
        self._kinds: dict[type[ResilienceError], type[ResilienceError]] = {}

    def fit(self, exc: ResilienceError) -> ResilienceError:
        """The same error, of a class that is also the library's."""
        if isinstance(exc, _Fitted):
            return exc
        ours = type(exc)
        kind = self._kinds.get(ours)
        if kind is None:
            kind = self._kinds[ours] = self._made(ours)
        fitted = kind.__new__(kind, *exc.args)
        fitted.__dict__.update(exc.__dict__)
        fitted.args = exc.args
        return fitted

    def _made(self, ours: type[ResilienceError]) -> type[ResilienceError]:
        base = self._timeout if issubclass(ours, TimedOut | DeadlineExceeded) else self._transport
        made = type(ours.__name__, (_Fitted, ours, base), {"__module__": __name__})
        return cast("type[ResilienceError]", made)
