"""pybreaker's listener objects, accepted as they are, by the shape of their methods.

pybreaker calls ``before_call(cb, func, *args, **kwargs)``, ``success(cb)``, ``failure(cb, exc)`` and
``state_change(cb, old_state, new_state)``, where states are objects with a ``name`` (``half-open`` with a hyphen). A
listener that raises is logged; under pybreaker it would break the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from . import events
from ._machines.breaker_state import State

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker
    from .policy import Call


class NamedState:
    """A state as a pybreaker listener expects it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<state {self.name}>"


# How pybreaker spells our states; the manual ones have no name there and keep ours.
_SPELLING: Final = {"half_open": "half-open"}


class BreakerView:
    """The breaker as a pybreaker listener expects it."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    @property
    def name(self) -> str:
        """The breaker's name."""
        return self._breaker.label

    @property
    def current_state(self) -> str:
        """The state, as pybreaker spells it."""
        return _SPELLING.get(self._breaker.state, self._breaker.state)

    @property
    def state(self) -> NamedState:
        """The state as an object, as pybreaker's property gives it."""
        return NamedState(self.current_state)

    @property
    def fail_counter(self) -> int:
        """Failures in a row."""
        return self._breaker.machine.failures

    @property
    def success_counter(self) -> int:
        """Good probes of this half-open period."""
        return self._breaker.machine.successes if self._breaker.machine.state is State.HALF_OPEN else 0

    @property
    def success_threshold(self) -> int:
        """Good probes that close it."""
        return self._breaker.machine.rules.success_threshold

    @property
    def fail_max(self) -> int:
        """Failures in a row that open it."""
        return self._breaker.machine.rules.fail_max

    @property
    def reset_timeout(self) -> float:
        """Seconds that it stays open."""
        return self._breaker.machine.rules.timeout


class Listeners:
    """The listeners of one breaker: those given in code, those from the settings, and those of integrations."""

    __slots__ = ("_all", "_attached", "_from_settings", "_view", "given", "want_calls", "want_successes")

    def __init__(self, breaker: CircuitBreaker, given: tuple[Any, ...]) -> None:
        self._view = BreakerView(breaker)
        self.given = given
        self._attached: tuple[Any, ...] = ()
        self.configured(())

    def configured(self, from_settings: tuple[Any, ...]) -> None:
        """Replace those that came from the settings."""
        self._from_settings = from_settings
        self._collect()

    def attach(self, listener: Any) -> None:
        """Tell ``listener`` from now on; it is no part of what the breaker was asked for with."""
        self._attached = (*self._attached, listener)
        self._collect()

    def detach(self, listener: Any) -> None:
        """Tell it no more."""
        self._attached = tuple(each for each in self._attached if each is not listener)
        self._collect()

    def _collect(self) -> None:
        found = (*self.given, *self._from_settings, *self._attached)
        self._all = tuple(listener for listener in found if not getattr(listener, "native", False))
        self.want_successes = any(_overrides(listener, "success") for listener in self._all)
        self.want_calls = any(_overrides(listener, "before_call") for listener in self._all)

    def before_call(self, call: Call) -> None:
        """A call is about to be made."""
        for listener in self._all:
            self._tell(listener, "before_call", call.fn, *call.args, **call.kwargs)

    def success(self) -> None:
        """A call succeeded."""
        for listener in self._all:
            self._tell(listener, "success")

    def failure(self, exc: BaseException) -> None:
        """A call failed."""
        for listener in self._all:
            self._tell(listener, "failure", exc)

    def state_change(self, before: str, after: str) -> None:
        """The breaker changed its state."""
        old, new = (NamedState(_SPELLING.get(state, state)) for state in (before, after))
        for listener in self._all:
            self._tell(listener, "state_change", old, new)

    def _tell(self, listener: Any, method: str, *args: Any, **kwargs: Any) -> None:
        try:
            getattr(listener, method, _nothing)(self._view, *args, **kwargs)
        except Exception:
            events.logger.exception(
                "listener %r of breaker %r raised in %s", listener, self._view.name, method
            )


def _overrides(listener: Any, method: str) -> bool:
    """Whether a listener does something there; the base classes of pybreaker and aiobreaker have empty methods."""
    own = getattr(listener.__class__, method, None) or getattr(listener, method, None)
    module = getattr(own, "__module__", "")
    return own is not None and module.partition(".")[0] not in ("pybreaker", "aiobreaker")


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
