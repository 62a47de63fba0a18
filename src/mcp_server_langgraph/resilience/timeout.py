"""Timeout: stop waiting, and know that it was we who stopped.

Outside a retry a `Timeout` is *total*: a deadline that everything inside inherits (`deadline`). Inside one it is *per
attempt*: it cuts that attempt and is not inherited. Either way it never exceeds what is left of the deadline of the
caller, whose expiry is told apart: our own is a failure of the dependency, the caller's is neutral.

The seconds may be computed for each call, from its arguments (Polly's TimeoutGenerator). The semantics are those of
``asyncio.timeout`` (`_machines.timers` has the mechanism and its cost).

Errors: `TimedOut` (also a TimeoutError); `DeadlineExceeded` where nothing was left and the call was not begun.
Events: ``timeout``. Metrics: ``timeout_violations_total``, ``timeout_duration_seconds``,
``deadline_expired_total``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from . import _functions, _stack, config
from ._checks import checked
from ._computed_time import ComputedAttempt, ComputedTotal
from ._time_block import timeout
from ._time_guards import AttemptGuard, TotalGuard
from .errors import ConfigurationError
from .policy import Cost, Guard, Policy, Site

__all__ = ["Timeout", "timeout", "with_timeout"]

F = TypeVar("F", bound=Callable[..., Any])


class Timeout(Policy):
    """Cut a call after ``seconds`` (> 0; None: from the settings, by the kind of service).

    ``seconds_for``: called with the call's arguments, for each attempt where it stands inside a retry; gives the
    seconds for it (> 0; infinity: no limit; None: ``seconds``). Not asked where the settings have a number for the
    service itself: an operator can overrule what code fixed. `ConfigurationError` from the call where it gives
    anything else; what it raises passes.

    For streams: ``first_item`` bounds the wait for the first item, ``idle`` the wait between two items (seconds; None:
    only ``seconds`` binds, which then is the time of the whole stream). The settings can change them, not add them.

    Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "timeout"
    refuses_sync = "a timeout cannot cut a plain function; make it async def"

    def __init__(
        self,
        seconds: float | None = None,
        *,
        seconds_for: Callable[..., float | None] | None = None,
        first_item: float | None = None,
        idle: float | None = None,
    ):
        for label, value in (("seconds", seconds), ("first_item", first_item), ("idle", idle)):
            checked("Timeout", label, value, "above 0 seconds", ok=value is None or value > 0)
        plain = callable(seconds_for) and _functions.kind_of(seconds_for) == "sync"
        checked("Timeout", "seconds_for", seconds_for, "a plain function of the call's arguments", ok=plain)
        self._explicit = seconds
        self._seconds_for = seconds_for
        self._overruled = False
        self.seconds: float = seconds or config.current().timeout("")
        self._clocks = (first_item, idle)
        self.first_item = first_item
        self.idle = idle
        self.per_attempt = False

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, for calls that begin from now on."""
        self.seconds = self._chosen(settings, service, self._explicit)
        if self._seconds_for is not None:  # what code wants gives way to the service's own number
            self._overruled = not math.isnan(self._chosen(settings, service, math.nan))
        first_item, idle = self._clocks
        if first_item is not None:
            self.first_item = settings.choose(service, "STREAM_FIRST_ITEM_TIMEOUT", first_item)
        if idle is not None:
            self.idle = settings.choose(service, "STREAM_IDLE_TIMEOUT", idle)

    def _chosen(self, settings: config.Settings, service: str, explicit: float | None) -> float:
        if self.per_attempt:
            return settings.attempt_timeout(service, explicit) or settings.timeout(service)
        return settings.timeout(service, explicit)

    @property
    def computed(self) -> bool:
        """Whether each call's seconds are computed."""
        return self._seconds_for is not None and not self._overruled

    def length_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        """The seconds of the call with these arguments. Raises `ConfigurationError` where what computes them errs."""
        if self._seconds_for is None or self._overruled:
            return self.seconds
        seconds = cast(object, self._seconds_for(*args, **kwargs))
        if seconds is None:
            return self.seconds
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0:
            return float(seconds)
        raise ConfigurationError(
            f"Timeout: seconds_for={_functions.qualified_name(self._seconds_for)} gave {seconds!r}; "
            "it must give a number of seconds above 0, or None"
        )

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        clocks: dict[str, object] = {"first_item": self.first_item, "idle": self.idle}
        if self.computed and self._seconds_for is not None:
            clocks["seconds_for"] = _functions.qualified_name(self._seconds_for)
        return {
            "seconds": self.seconds,
            **{name: value for name, value in clocks.items() if value is not None},
        }

    def worst_case(self, inner: Cost) -> Cost:
        """No longer than the time that it allows, where that is known before."""
        return inner if self.computed else inner._replace(seconds=min(inner.seconds, self.seconds))

    def bind(self, site: Site) -> Guard:
        """Per attempt inside a retry, total outside."""
        self.per_attempt = site.inside_retry
        fixed = self._seconds_for is None
        if site.inside_retry:
            return AttemptGuard(self, site) if fixed else ComputedAttempt(self, site)
        total = TotalGuard(self, site) if fixed else ComputedTotal(self, site)
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
