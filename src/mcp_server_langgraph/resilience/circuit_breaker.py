"""Circuit breaker: stop calling a dependency that keeps failing, and find out cheaply when it is back.

It protects the dependency from calls that would fail anyway, and the caller from waiting for them. After ``fail_max``
failures in a row it is open for ``timeout`` seconds; then exactly ``half_open_max`` probes are let through at a time
while all other calls still fail at once; ``success_threshold`` good probes close it, a bad one opens it again.

Source: M. Nygard, "Release It!", 2nd ed., ch. 5; https://martinfowler.com/bliki/CircuitBreaker.html. The machine is in
`_breaker`. Neutral outcomes (cancellation, 4xx, bugs, our own rejections) give places back and count for nothing.

Errors: `CircuitOpen`. Events: ``state_change``, ``rejected``. Metrics: ``circuit_breaker_*``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from . import _listeners, _stack, config, events
from ._breaker import BreakerMachine, Mode, State
from ._breaker_guard import Announced, BreakerGuard
from .errors import ConfigurationError
from .metrics import Sample
from .policy import Guard, Policy, Site

__all__ = ["BreakerSnapshot", "CircuitBreaker", "Mode", "circuit_breaker"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """A breaker at one moment. ``state``: what callers meet; ``automatic``: where the machine stands."""

    name: str
    state: str
    automatic: str
    consecutive_failures: int
    probes: int
    opened_at: float | None
    successes: int
    failures: dict[str, int]
    neutral: int
    rejected: int
    would_reject: int


class CircuitBreaker(Policy):
    """One breaker for one dependency; it may stand in many pipelines.

    ``name``: the metrics' ``service`` label (default: the first pipeline's name). ``fail_max``: failures in a row that
    open it (>= 1; default 5). ``timeout``: seconds it stays open (> 0; default 60). ``half_open_max``: probes at a time
    (>= 1). ``success_threshold``: good probes that close it (>= 1). ``lease``: seconds after which a silent probe loses
    its place (default: the open time, 1 at the least). ``expected_exception``: only these can be failures.
    ``listeners``: objects with pybreaker's ``before_call``, ``success``, ``failure``, ``state_change``.

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "circuit_breaker"

    def __init__(
        self,
        name: str | None = None,
        fail_max: int | None = None,
        timeout: float | None = None,
        *,
        half_open_max: int = 1,
        success_threshold: int = 1,
        lease: float | None = None,
        expected_exception: type[BaseException] | tuple[type[BaseException], ...] | None = None,
        listeners: tuple[Any, ...] | list[Any] = (),
    ) -> None:
        _check_counts(
            name, fail_max=fail_max, half_open_max=half_open_max, success_threshold=success_threshold
        )
        _check_seconds(name, timeout=timeout, lease=lease)
        self.name = name
        self._explicit = (fail_max, timeout, lease)
        self._explicit_expected = expected_exception
        self.machine = BreakerMachine(half_open_max=half_open_max, success_threshold=success_threshold)
        self.mode = Mode.AUTOMATIC
        self.expected: tuple[type[BaseException], ...] = (Exception,)
        self.listeners = _listeners.Listeners(self, tuple(listeners))
        self.counts = _BreakerMeter(self)
        self.lock = threading.RLock()
        self.apply(config.current(), name or "")

    # Settings

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; the state stays."""
        fail_max, timeout, lease = self._explicit
        expected = self._explicit_expected
        with self.lock:
            self.machine.fail_max = settings.choose(service, "CIRCUIT_BREAKER_FAIL_MAX", fail_max)
            self.machine.open_for = settings.choose(service, "CIRCUIT_BREAKER_TIMEOUT_DURATION", timeout)
            self.machine.lease = lease or max(1.0, self.machine.open_for)
        chosen = settings.choose(service, "CIRCUIT_BREAKER_EXPECTED_EXCEPTION", expected)
        self.expected = chosen if isinstance(chosen, tuple) else (chosen,)
        self.listeners.configured(settings.choose(service, "CIRCUIT_BREAKER_LISTENERS"))
        with self.lock:
            self.machine.heard = self.listeners.active
            self.machine.settle()

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        machine = self.machine
        named = {} if self.name is None else {"name": self.name}
        return {
            **named,
            "fail_max": machine.fail_max,
            "timeout": machine.open_for,
            "half_open_max": machine.half_open_max,
            "success_threshold": machine.success_threshold,
        }

    def same_settings(self, other: CircuitBreaker) -> bool:
        """Whether two breakers were asked for with the same explicit settings."""
        return self._asked() == other._asked()

    def _asked(self) -> tuple[object, ...]:
        probes = (self.machine.half_open_max, self.machine.success_threshold)
        return (*self._explicit, *probes, self._explicit_expected, self.listeners.given)

    # State, and the operator's hand on it

    @property
    def state(self) -> str:
        """closed, open, half_open; or the manual mode: forced_open, forced_closed, disabled, metrics_only."""
        return self.machine.state.value if self.mode is Mode.AUTOMATIC else self.mode.value

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        self._set_mode(Mode.FORCED_OPEN)

    def force_close(self) -> None:
        """Let every call in, count what comes of it, and leave the machine as it stands, until `reset`."""
        self._set_mode(Mode.FORCED_CLOSED)

    def disable(self) -> None:
        """Let every call in and count nothing, until `reset`."""
        self._set_mode(Mode.DISABLED)

    def metrics_only(self) -> None:
        """Run the machine and count what it would refuse, but refuse nothing, until `reset`."""
        self._set_mode(Mode.METRICS_ONLY)

    def reset(self) -> None:
        """Back to the automatic machine, closed."""
        self._set_mode(Mode.AUTOMATIC, close=True)

    def _set_mode(self, mode: Mode, *, close: bool = False) -> None:
        with self.lock:
            before = self.state
            self.mode = mode
            self.machine.automatic = mode is Mode.AUTOMATIC
            self.machine.forget_admissions()  # results of the mode that ends say nothing in the next
            if close:
                self.machine.close()
            after = self.count_change(before)
        self.tell_change(before, after)

    def matters_until(self, now: float) -> float:
        """While it is open; for ever in a mode that an operator chose."""
        if self.mode is not Mode.AUTOMATIC:
            return math.inf
        if self.machine.state is State.CLOSED:
            return -math.inf
        return now + (self.machine.retry_after(now) or 0.0)

    def snapshot(self) -> BreakerSnapshot:
        """The breaker now."""
        with self.lock:
            machine, counts = self.machine, self.counts
            return BreakerSnapshot(
                name=self.label,
                state=self.state,
                automatic=machine.state.value,
                consecutive_failures=machine.failures,
                probes=len(machine.probes),
                opened_at=None if machine.state is State.CLOSED else machine.opened_at,
                successes=counts.successes,
                failures=dict(counts.failures),
                neutral=counts.neutral,
                rejected=counts.rejected,
                would_reject=counts.would_reject,
            )

    @property
    def label(self) -> str:
        """The name, for metrics and messages."""
        return self.name or "unnamed"

    def count_change(self, before: str) -> str:
        """Count a transition, under the lock; gives the state now."""
        after = self.state
        if after != before:
            self.counts.transitions[after] = self.counts.transitions.get(after, 0) + 1
        return after

    def tell_change(self, before: str, after: str) -> None:
        """Tell listeners and log of a transition, outside the lock."""
        if after != before:
            events.emit("state_change", self.label, before=before, after=after)
            self.listeners.state_change(before, after)

    # In a pipeline

    def bind(self, site: Site) -> Guard | Policy:
        """The guard of one pipeline. Listeners that want ``before_call`` need the call itself: the general form."""
        if self.name is None:
            self.name = site.name
            self.apply(config.current(), self.name)
        guard = BreakerGuard(self, site)
        if site.inside_retry:
            site.gates.append(guard.refuses_for)
        return Announced(self, guard) if self.listeners.want_calls else guard


class _BreakerMeter:
    """What one breaker counted."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.successes = 0
        self.neutral = 0
        self.rejected = 0
        self.would_reject = 0
        self.failures: dict[str, int] = {}
        self.transitions: dict[str, int] = {}

    def failure(self, exc: BaseException) -> None:
        kind = type(exc).__name__
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def samples(self) -> Iterator[Sample]:
        name = self.breaker.label
        state = self.breaker.state
        modes = [mode.value for mode in Mode if mode is not Mode.AUTOMATIC]
        for known in [*(each.value for each in State), *modes]:
            yield Sample("circuit_breaker_state", (name, known), float(known == state))
        for kind, count in list(self.failures.items()):
            yield Sample("circuit_breaker_failures_total", (name, kind), count)
        for after, count in list(self.transitions.items()):
            yield Sample("circuit_breaker_transitions_total", (name, after), count)
        yield Sample("circuit_breaker_success_total", (name,), self.successes)
        yield Sample("circuit_breaker_neutral_total", (name,), self.neutral)
        yield Sample("circuit_breaker_rejected_total", (name,), self.rejected)


def _check_counts(name: str | None, **counts: float | None) -> None:
    for label, value in counts.items():
        if value is not None and not (isinstance(value, int) and value >= 1):
            raise ConfigurationError(
                f"CircuitBreaker {name!r}: {label}={value!r} must be a whole number of at least 1"
            )


def _check_seconds(name: str | None, **seconds: float | None) -> None:
    for label, value in seconds.items():
        if value is not None and not value > 0:
            raise ConfigurationError(f"CircuitBreaker {name!r}: {label}={value!r} must be above 0 seconds")


def circuit_breaker(
    name: str | None = None,
    fail_max: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Callable[[F], F]:
    """Decorate a function with the breaker of that name (see `CircuitBreaker` for the settings).

    One name is one breaker: the same name with other explicit settings raises `ConfigurationError`, at decoration, and
    names both places. Without a name the breaker belongs to the decorated function.
    """
    _stack.refuse_bare("circuit_breaker", name)
    place = _stack.caller()

    def decorate(fn: F) -> F:
        breaker = CircuitBreaker(name, fail_max, timeout, **options)
        if name is not None:
            breaker = _stack.shared(name, breaker, place)
        return _stack.add(breaker, fn)

    return decorate
