"""Timeout: stop waiting, and know that it was we who stopped.

Outside a retry a `Timeout` is *total*: a deadline that everything inside inherits (`deadline`). Inside one it is *per
attempt*: it cuts that attempt and is not inherited. Either way it never exceeds what is left of the deadline of the
caller, whose expiry is told apart: our own is a failure of the dependency, the caller's is neutral.

The semantics are those of ``asyncio.timeout`` (`_machines.timers` has the mechanism and its cost).

Errors: `TimedOut` (also a TimeoutError); `DeadlineExceeded` where nothing was left and the call was not begun.
Events: ``timeout``. Metrics: ``timeout_violations_total``, ``timeout_duration_seconds``,
``deadline_expired_total``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from . import _stack, config
from ._checks import checked
from ._time_block import timeout
from ._time_guards import AttemptGuard, TotalGuard
from .policy import Cost, Guard, Policy, Site

__all__ = ["Timeout", "timeout", "with_timeout"]

F = TypeVar("F", bound=Callable[..., Any])


class Timeout(Policy):
    """Cut a call after ``seconds`` (> 0; None: from the settings, by the kind of service).

    For streams: ``first_item`` bounds the wait for the first item, ``idle`` the wait between two items (seconds; None:
    only ``seconds`` binds, which then is the time of the whole stream).

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "timeout"
    refuses_sync = "a timeout cannot cut a plain function; make it async def"

    def __init__(
        self, seconds: float | None = None, *, first_item: float | None = None, idle: float | None = None
    ):
        for label, value in (("seconds", seconds), ("first_item", first_item), ("idle", idle)):
            checked("Timeout", label, value, "above 0 seconds", ok=value is None or value > 0)
        self._explicit = seconds
        self.seconds: float = seconds or config.current().timeout("")
        self.first_item = first_item
        self.idle = idle
        self.per_attempt = False

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for calls that begin from now on."""
        if self.per_attempt:
            self.seconds = settings.attempt_timeout(service, self._explicit) or settings.timeout(service)
        else:
            self.seconds = settings.timeout(service, self._explicit)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        clocks = {"first_item": self.first_item, "idle": self.idle}
        return {
            "seconds": self.seconds,
            **{name: value for name, value in clocks.items() if value is not None},
        }

    def worst_case(self, inner: Cost) -> Cost:
        """No longer than the time that it allows."""
        return inner._replace(seconds=min(inner.seconds, self.seconds))

    def bind(self, site: Site) -> Guard:
        """Per attempt inside a retry, total outside."""
        self.per_attempt = site.inside_retry
        if site.inside_retry:
            return AttemptGuard(self, site)
        total = TotalGuard(self, site)
        site.totals.append(total)
        return total


def with_timeout(seconds: float | None = None, **options: Any) -> Callable[[F], F]:
    """Decorate a function with a timeout (see `Timeout`): per attempt below a retry, else total.

    Raises TypeError at decoration of a plain ``def``, which cannot be cut.
    """

    _stack.refuse_bare("with_timeout", seconds)

    def decorate(fn: F) -> F:
        return _stack.add(Timeout(seconds, **options), fn)

    return decorate
