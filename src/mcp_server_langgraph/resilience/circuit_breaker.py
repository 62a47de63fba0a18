"""Circuit breaker: stop calling a dependency that keeps failing, and find out cheaply when it is back.

It protects the dependency from calls that would fail anyway, and the caller from waiting for them. After ``fail_max``
failures in a row it is open for ``timeout`` seconds; then exactly ``half_open_max`` probes are let through at a time
while all other calls still fail at once; ``success_threshold`` good probes close it, a bad one opens it again.

Source: M. Nygard, "Release It!", 2nd ed., ch. 5; https://martinfowler.com/bliki/CircuitBreaker.html. The machine is in
`_breaker`. Neutral outcomes (cancellation, 4xx, bugs, our own rejections) give places back and count for nothing.

Errors: `CircuitOpen`. Events: ``state_change``, ``rejected``. Metrics: ``circuit_breaker_*``.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from . import _listeners, _stack, config, events
from ._breaker import Admission, BreakerMachine, State
from .errors import CircuitOpen, ConfigurationError
from .metrics import Sample
from .outcome import Outcome
from .policy import BadResult, Call, Guard, Policy, Proceed, ProceedSync, Site

__all__ = ["BreakerSnapshot", "CircuitBreaker", "Mode", "circuit_breaker"]

F = TypeVar("F", bound=Callable[..., Any])


class Mode(enum.Enum):
    """Who decides: the machine, or an operator."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


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
    its place (default: the open time, 1 at the least). ``expected_exception``: only these can be failures. ``listeners``:
    objects with pybreaker's ``before_call``, ``success``, ``failure``, ``state_change``.

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
        for label, value in (("fail_max", fail_max), ("half_open_max", half_open_max), ("threshold", success_threshold)):
            if value is not None and (value != int(value) or value < 1):
                raise ConfigurationError(f"CircuitBreaker {name!r}: {label}={value!r} must be a whole number of at least 1")
        for label, seconds in (("timeout", timeout), ("lease", lease)):
            if seconds is not None and not seconds > 0:
                raise ConfigurationError(f"CircuitBreaker {name!r}: {label}={seconds!r} must be above 0 seconds")
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
        mine, theirs = self.machine, other.machine
        probes = (mine.half_open_max, mine.success_threshold) == (theirs.half_open_max, theirs.success_threshold)
        return probes and self._explicit == other._explicit and self._explicit_expected == other._explicit_expected

    # State, and the operator's hand on it

    @property
    def state(self) -> str:
        """closed, open, half_open; or the manual mode: forced_open, forced_closed, disabled, metrics_only."""
        return self.machine.state.value if self.mode is Mode.AUTOMATIC else self.mode.value

    def force_open(self) -> None:
        """Refuse every call until `reset`."""
        self._set_mode(Mode.FORCED_OPEN)

    def force_close(self) -> None:
        """Let every call in, count, and do not trip, until `reset`."""
        self._set_mode(Mode.FORCED_CLOSED)

    def disable(self) -> None:
        """Let every call in and count nothing, until `reset`."""
        self._set_mode(Mode.DISABLED)

    def metrics_only(self) -> None:
        """Run the machine and count what it would refuse, but refuse nothing, until `reset`."""
        self._set_mode(Mode.METRICS_ONLY)

    def reset(self) -> None:
        """Back to the automatic machine, closed."""
        with self.lock:
            self.machine.close()
        self._set_mode(Mode.AUTOMATIC)

    def _set_mode(self, mode: Mode) -> None:
        with self.lock:
            before = self.state
            self.mode = mode
            if self.machine.state is State.CLOSED:
                self.machine.close()  # a new generation: results of the mode that ends say nothing in the next
        self.changed(before)

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

    def changed(self, before: str) -> None:
        """Tell listeners, log and metrics of a transition, outside the lock."""
        after = self.state
        if after != before:
            self.counts.transitions[after] = self.counts.transitions.get(after, 0) + 1
            events.emit("state_change", self.label, before=before, after=after)
            self.listeners.state_change(before, after)

    # In a pipeline

    def bind(self, site: Site) -> Guard | Policy:
        """The guard of one pipeline. Listeners that want ``before_call`` need the call itself: the general form."""
        if self.name is None:
            self.name = site.name
            self.apply(config.current(), self.name)
        guard = _BreakerGuard(self, site)
        return _Announced(self, guard) if self.listeners.want_calls else guard


class _BreakerGuard(Guard):
    def __init__(self, breaker: CircuitBreaker, site: Site) -> None:
        self.breaker = breaker
        self.machine = breaker.machine
        self.counts = breaker.counts
        self.meter = breaker.counts
        self.site = site

    def enter(self, now: float) -> Admission | None:
        admission = self.machine.closed
        if admission is not None and self.breaker.mode is Mode.AUTOMATIC:
            return admission
        return self._enter_slowly(now)

    def _enter_slowly(self, now: float) -> Admission | None:
        breaker = self.breaker
        with breaker.lock:
            before = breaker.state
            mode = breaker.mode
            admission = None if mode in (Mode.FORCED_OPEN, Mode.DISABLED) else self.machine.admit(now)
            refused = admission is None and mode in (Mode.AUTOMATIC, Mode.FORCED_OPEN)
            if refused:
                self.counts.rejected += 1
            elif admission is None and mode is Mode.METRICS_ONLY:
                self.counts.would_reject += 1
            wait = None if mode is Mode.FORCED_OPEN else self.machine.retry_after(now)
        breaker.changed(before)
        if refused:
            raise CircuitOpen(breaker.label, wait)
        return admission

    def succeeded(self, token: Admission | None, now: float) -> None:
        machine = self.machine
        if token is machine.closed and token is not None:
            if machine.failures:
                machine.failures = 0
            self.counts.successes += 1
            if self.breaker.listeners.active:
                self.breaker.listeners.success()
        elif self.breaker.mode is not Mode.DISABLED:
            self._succeeded_slowly(token)

    def _succeeded_slowly(self, token: Admission | None) -> None:
        breaker = self.breaker
        with breaker.lock:
            before = breaker.state
            self.counts.successes += 1
            if token is not None:
                self.machine.succeeded(token)
        breaker.changed(before)
        breaker.listeners.success()

    def failed(self, token: Admission | None, now: float, exc: BaseException) -> None:
        breaker = self.breaker
        if breaker.mode is Mode.DISABLED:
            return
        failure = self._is_failure(exc)
        with breaker.lock:
            before = breaker.state
            if not failure:
                self.counts.neutral += 1
                if token is not None:
                    self.machine.abandoned(token)
            else:
                self.counts.failure(exc)
                if token is not None and breaker.mode is not Mode.FORCED_CLOSED:
                    self.machine.failed(token, now)
        breaker.changed(before)
        if failure:
            breaker.listeners.failure(exc)

    def _is_failure(self, exc: BaseException) -> bool:
        expected = self.breaker.expected
        if isinstance(exc, Exception) and not isinstance(exc, (*expected, BadResult)):
            return False
        return self.site.verdict(exc).outcome is Outcome.FAILURE


class _Announced(Policy):
    """A breaker whose listeners are told of each call before it is made, with the function and its arguments."""

    kind = CircuitBreaker.kind

    def __init__(self, breaker: CircuitBreaker, guard: _BreakerGuard) -> None:
        self.breaker = breaker
        self.guard = guard
        self.meter = guard.meter

    async def run(self, call: Call, proceed: Proceed) -> Any:
        self.breaker.listeners.before_call(call)
        return await self.guard.run(call, proceed)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        self.breaker.listeners.before_call(call)
        return self.guard.run_sync(call, proceed)


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
    place = _stack.caller()

    def decorate(fn: F) -> F:
        breaker = CircuitBreaker(name, fail_max, timeout, **options)
        if name is not None:
            breaker = _stack.shared(name, breaker, place)
        return _stack.add(breaker, fn)

    return decorate
