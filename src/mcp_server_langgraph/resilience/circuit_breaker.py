"""Circuit breaker: stop calling a dependency that keeps failing, and find out cheaply when it is back.

It protects the dependency from calls that would fail anyway, and the caller from waiting for them. After ``fail_max``
failures in a row, or where the share of failures or of slow calls is too high, it is open for ``timeout`` seconds, and
longer each time in a row; then exactly ``half_open_max`` probes are let through at a time while all other calls still
fail at once; ``success_threshold`` good probes close it, a bad one opens it again.

Source: M. Nygard, "Release It!", 2nd ed., ch. 5; https://martinfowler.com/bliki/CircuitBreaker.html. The machine is
in `_machines.breaker`. Neutral outcomes (cancellation, 4xx, bugs, our own rejections) give places back and count for
nothing.

Errors: `CircuitOpen`. Events: ``state_change``, ``rejected``. Metrics: ``circuit_breaker_*``.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from . import _breaker_settings, _listeners, _stack, config, events
from ._breaker_guard import Announced, BreakerGuard
from ._breaker_meter import BreakerMeter, BreakerSnapshot, snapshot_of
from ._breaker_settings import Asked
from ._machines.breaker import BreakerMachine
from ._machines.breaker_state import Mode, State
from .deadline import now as current_time
from .policy import Guard, Policy, Site

__all__ = ["BreakerSnapshot", "CircuitBreaker", "Mode", "circuit_breaker"]

F = TypeVar("F", bound=Callable[..., Any])

Exceptions = type[BaseException] | tuple[type[BaseException], ...]


class CircuitBreaker(Policy):
    """One breaker for one dependency; it may stand in many pipelines.

    ``name``: the metrics' ``service`` label (default: the first pipeline's name).

    What opens it, any of: ``fail_max`` failures in a row (>= 1; default 5; 0: not these). ``failure_rate``, the share
    of calls that fail, ``slow_rate``, the share that take ``slow_after`` seconds or more, also while they still run
    (above 0, up to 1; default: not measured), over the last ``window`` calls (>= 1; default 100) or those of the last
    ``window_seconds``, where there were ``minimum_calls`` of them (>= 1; default 20).

    For how long: ``timeout`` seconds (> 0; default 60), each further break in a row ``backoff`` times as long (>= 1;
    default 2; 1: always the same) up to ``timeout_max`` (default 60), shorter by chance by up to a share of ``jitter``
    (0 to 1; default 0.5) but never below ``timeout``. A Retry-After that came with a failure is a minimum, up to 300 s.

    How it closes: ``half_open_max`` probes at a time (>= 1; default 1), ``success_threshold`` good ones (>= 1; default
    1), each with a ``lease`` in seconds after which it loses its place (default: the timeout, 1 at the least); then for
    ``ramp`` seconds only a growing share of the calls is let in (>= 0; default 0: all at once).

    ``expected_exception``: only these can be failures. ``listeners``: objects with pybreaker's ``before_call``,
    ``success``, ``failure``, ``state_change``. ``chance`` gives numbers in [0, 1).

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "circuit_breaker"

    def __init__(
        self,
        name: str | None = None,
        fail_max: int | None = None,
        timeout: float | None = None,
        *,
        failure_rate: float | None = None,
        slow_rate: float | None = None,
        slow_after: float | None = None,
        window: int | None = None,
        window_seconds: float | None = None,
        minimum_calls: int | None = None,
        backoff: float | None = None,
        timeout_max: float | None = None,
        jitter: float | None = None,
        half_open_max: int | None = None,
        success_threshold: int | None = None,
        lease: float | None = None,
        ramp: float | None = None,
        expected_exception: Exceptions | None = None,
        listeners: tuple[Any, ...] | list[Any] = (),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.asked = Asked(
            fail_max=fail_max,
            timeout=timeout,
            failure_rate=failure_rate,
            slow_rate=slow_rate,
            slow_after=slow_after,
            window=window,
            window_seconds=window_seconds,
            minimum_calls=minimum_calls,
            half_open_max=half_open_max,
            success_threshold=success_threshold,
            lease=lease,
            backoff=backoff,
            timeout_max=timeout_max,
            jitter=jitter,
            ramp=ramp,
        )
        self.asked.check(name)
        self.asked = _breaker_settings.one_of_equals(self.asked)
        self.name = name
        self.expected_asked = expected_exception
        self.expected: tuple[type[BaseException], ...] = (Exception,)
        self.machine = BreakerMachine(chance=chance)
        self.mode = Mode.AUTOMATIC
        self.listeners = _listeners.Listeners(self, tuple(listeners))
        self.counts = BreakerMeter(self)
        self.lock = threading.RLock()
        self._has_guards = False
        self.apply(config.current(), name or "")

    # Settings

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; state, window (where its size stays) and calls in flight stay.

        Raises `ConfigurationError` where they contradict what was fixed in code.
        """
        rules = _breaker_settings.rules_for(self.asked, settings, service, self.name)
        chosen = settings.choose(service, "CIRCUIT_BREAKER_EXPECTED_EXCEPTION", self.expected_asked)
        self.expected = chosen if isinstance(chosen, tuple) else (chosen,)
        self.listeners.configured(settings.choose(service, "CIRCUIT_BREAKER_LISTENERS"))
        if self.listeners.want_calls and self._has_guards:
            events.emit("warning", self.label, problem="pipelines built before do not tell before_call")
        with self.lock:
            self.machine.heard = self.listeners.want_successes
            self.machine.change(rules)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force; what is off is left out."""
        return _breaker_settings.shown(self.name, self.machine.rules)

    def same_settings(self, other: CircuitBreaker) -> bool:
        """Whether two breakers were asked for with the same explicit settings."""
        return self._wanted() == other._wanted()

    @property
    def is_bare(self) -> bool:
        """Whether it was asked for without any explicit settings."""
        return self._wanted() == (Asked(), None, ())

    def _wanted(self) -> tuple[object, ...]:
        return self.asked, self.expected_asked, self.listeners.given

    def doubts(self, attempt_timeout: float | None) -> Iterator[str]:
        """What is probably not meant where an attempt may take so many seconds, a sentence each."""
        return _breaker_settings.doubts(self.machine.rules, attempt_timeout)

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
            change = None if self.state == before else self._count_change(before)
        if change is not None:
            self.tell_change(*change)

    def learn_open(self, seconds: float) -> bool:
        """Believe that others find the dependency down, for ``seconds`` from now (0: no longer). True where it opens.

        Only a closed circuit opens for that, with the reason ``quorum``, and only such a break can be given another
        end; then it probes as after any other. What it found out itself, and an operator's mode, win. Whoever calls
        this has heard it from others, never from a call: see `integrations.shared`.
        """
        now = current_time()
        with self.lock:
            if self.mode is not Mode.AUTOMATIC:
                return False
            before = self.machine.state
            opened = self.machine.told(now, seconds)
            change = None if self.machine.state is before else self.changed_from(before)
        if change is not None:
            self.tell_change(*change)
        return opened

    def matters_until(self, now: float) -> float:
        """While it is open; for ever in a mode that an operator chose."""
        if self.mode is not Mode.AUTOMATIC:
            return math.inf
        if self.machine.state is State.CLOSED:
            return -math.inf
        return now + self.machine.refuses_for(now)

    def snapshot(self) -> BreakerSnapshot:
        """The breaker now."""
        with self.lock:
            return snapshot_of(self)

    def changed_from(self, before: State) -> tuple[str, str] | None:
        """Count a transition of the machine, under the lock; None where callers do not meet it."""
        return self._count_change(before.value) if self.mode is Mode.AUTOMATIC else None

    def _count_change(self, before: str) -> tuple[str, str]:
        after = self.state
        self.counts.transitions[after] = self.counts.transitions.get(after, 0) + 1
        return before, after

    def tell_change(self, before: str, after: str) -> None:
        """Tell listeners and log of a transition, outside the lock."""
        because = {"because": self.machine.because} if after == "open" else {}
        events.emit("state_change", self.label, before=before, after=after, **because)
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
        if self.listeners.want_calls:
            return Announced(self, guard)
        self._has_guards = True
        return guard


def circuit_breaker(
    name: str | None = None,
    fail_max: int | None = None,
    timeout: float | None = None,
    **options: Any,
) -> Callable[[F], F]:
    """Decorate a function with the breaker of that name (see `CircuitBreaker` for the settings).

    One name is one breaker: the same name with other explicit settings raises `ConfigurationError`, at decoration, and
    names both places. A mention without any settings joins the breaker that is there; settings belong to the first
    mention. Without a name the breaker belongs to the decorated function.
    """
    _stack.refuse_bare("circuit_breaker", name)
    place = _stack.caller()

    def decorate(fn: F) -> F:
        breaker = CircuitBreaker(name, fail_max, timeout, **options)
        if name is not None:
            breaker = _stack.shared(name, breaker, place)
        return _stack.add(breaker, fn)

    return decorate
