"""Chaos: disturb a share of the calls on purpose, to see that what stands around them holds.

Four ways, which may be combined: a *behaviour* of yours is called, *latency* is added, then a *fault* is raised or an
*outcome* given instead of the call. It stands innermost: then retry, breaker and timeout deal with it as with the real
thing.

It is off, and cannot be left on unseen:

- Two have to want it: the code (``enabled=True``) and the operator (``CHAOS_ENABLED``, or that of one service).
- It expires by itself ``max_duration`` seconds after it was switched on, whatever the load; to go on, the operator
  switches it off and on again.
- Where ``ENVIRONMENT`` says production it stays off, unless ``CHAOS_ALLOW_PRODUCTION`` is true as well.
- Switching on, refusing, expiring, the first strike and every hundredth are events and warnings in the log; a gauge,
  the snapshot and ``describe`` say that it is on; every struck call notes a degradation, and an injected fault says so.

Source: Simmy, the chaos strategies of Polly (whose rate of 0.001 is the default); "Principles of Chaos Engineering".

Errors: the fault that was asked for. Events: ``chaos``. Metrics: ``chaos_*``. The machine: `_machines.chaos`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from . import _functions, config, events
from ._chaos_at import NO_OUTCOME, ChaosAt, ChaosMeter
from ._checks import checked
from ._machines.chaos import ChaosMachine, State, Window
from .deadline import now
from .errors import ConfigurationError
from .policy import Call, Cost, Guard, Policy, Site

__all__ = ["Chaos", "ChaosSnapshot", "Window"]

Latency = float | tuple[float, float] | Callable[[random.Random], float]
Fault = BaseException | Callable[[], BaseException]

_PRODUCTION: Final = ("live", "prd", "prod", "production")

# Strikes from one reminder in the log to the next.
_REMIND_EVERY: Final = 100


@dataclass(frozen=True, slots=True)
class ChaosSnapshot:
    """Chaos at one moment: its state (``off``, ``on``, ``expired``), and what it has done so far, by kind."""

    state: str
    injected: Mapping[str, int]


class Chaos(Policy):
    """Disturb a share of the calls.

    ``fault``: an exception, its type, or a function that makes one. ``latency``: seconds (>= 0), a pair of the least
    and the most, or a function of a ``random.Random``. ``outcome``: the result given instead of the call.
    ``behaviour``: a function (``def`` or ``async def``) that is given the `Call`. At least one of them; a fault and an
    outcome exclude each other. ``rate``: share of the calls (0 to 1). ``seed``: the same seed strikes the same calls.
    ``schedule``: a `Window` or several, outside which nothing is struck. ``max_duration``: seconds after which it
    expires (> 0, finite). ``after_items``: in a stream the fault comes after so many items (>= 0).

    None means: from the settings (0.001, and 900 seconds). Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = ChaosAt.kind

    def __init__(
        self,
        *,
        fault: Fault | None = None,
        latency: Latency | None = None,
        outcome: Any = NO_OUTCOME,
        behaviour: Callable[[Call], Any] | None = None,
        rate: float | None = None,
        seed: int | None = None,
        schedule: Window | Sequence[Window] = (),
        enabled: bool = False,
        max_duration: float | None = None,
        after_items: int = 0,
        name: str | None = None,
    ) -> None:
        _check_effects(fault, latency, outcome, behaviour)
        _check_numbers(rate, max_duration, after_items)
        windows = (schedule,) if isinstance(schedule, Window) else tuple(schedule)
        self.name = name
        self.fault = fault
        self.latency = latency
        self._draw, self._longest = _drawn(latency)
        self.outcome = outcome
        self.behaviour = behaviour
        self.enabled = enabled
        self.after_items = after_items
        self.machine = ChaosMachine(0.0, 1.0, windows, seed)
        self.counts = ChaosMeter(self)
        self._explicit = (rate, max_duration)
        self._wanted = False
        self._chance = random.Random(seed)

    @property
    def refuses_sync(self) -> str | None:
        """Why it cannot guard a plain function; None where it can."""
        waits = self.behaviour is not None and _functions.kind_of(self.behaviour) != "sync"
        return "its behaviour is asynchronous" if waits else None

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings. What is on stays on for as long as it had; what has expired stays expired until
        it was switched off once.
        """
        rate, max_duration = self._explicit
        self.machine.rate = settings.choose(service, "CHAOS_RATE", rate)
        self.machine.max_duration = settings.choose(service, "CHAOS_MAX_DURATION", max_duration)
        wanted = self.enabled and bool(settings.choose(service, "CHAOS_ENABLED"))
        if wanted and not self._wanted:
            self._switch_on(settings, service)
        elif self._wanted and not wanted:
            self.stop()
        self._wanted = wanted

    def _switch_on(self, settings: config.Settings, service: str) -> None:
        environment = str(settings.choose(service, "ENVIRONMENT"))
        if environment.lower() in _PRODUCTION and not settings.choose(service, "CHAOS_ALLOW_PRODUCTION"):
            self._say("refused", environment=environment)
            return
        self.machine.on(now())
        self._say("on", rate=self.machine.rate, max_duration=self.machine.max_duration)

    def stop(self) -> None:
        """Switch it off now, until the operator switches it off and on again."""
        was = self.machine.state
        self.machine.off()
        if was is State.ON:
            self._say("off", injected=self.counts.total)

    def is_on(self) -> bool:
        """Whether calls may be struck now."""
        if self.machine.check(now()):
            self._say("expired", injected=self.counts.total)
        return self.machine.state is State.ON

    def strikes(self) -> bool:
        """Whether the call that comes now is struck."""
        return self.is_on() and self.machine.strikes(now())

    def count(self, kind: str) -> None:
        """Count a strike, and remind of it now and then."""
        self.counts.injected[kind] += 1
        if self.counts.total % _REMIND_EVERY == 1:
            self._say("striking", injected=self.counts.total)

    def delay(self) -> float:
        """Seconds of latency for one call."""
        return max(0.0, self._draw(self._chance))

    def error(self) -> BaseException:
        """The fault for one call, which says where it comes from."""
        assert self.fault is not None
        error = self.fault if isinstance(self.fault, BaseException) else self.fault()
        said = f"resilience: injected by chaos of {self.name!r}"
        if said not in getattr(error, "__notes__", ()):
            error.add_note(said)
        return error.with_traceback(None)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force, and whether it is on."""
        effects = {"fault": self.fault, "latency": self.latency, "behaviour": self.behaviour}
        given: dict[str, Any] = {name: _named(value) for name, value in effects.items() if value is not None}
        if self.outcome is not NO_OUTCOME:
            given["outcome"] = self.outcome
        state = "on" if self.is_on() else self.machine.state.value
        return {**given, "rate": self.machine.rate, "max_duration": self.machine.max_duration, "state": state}

    def snapshot(self) -> ChaosSnapshot:
        """Chaos now."""
        self.is_on()
        return ChaosSnapshot(self.machine.state.value, dict(self.counts.injected))

    def worst_case(self, inner: Cost) -> Cost:
        """The latency comes on top, where the code wants chaos at all."""
        if not self.enabled or self.latency is None:
            return inner
        return Cost(inner.requests, inner.seconds + self._longest)

    def bind(self, site: Site) -> Policy | Guard:
        """What strikes in one pipeline; nothing where the code does not want it."""
        self.name = self.name or site.name
        return ChaosAt(self, site) if self.enabled else Guard()

    def _say(self, state: str, **details: Any) -> None:
        events.emit("chaos", self.label, state=state, **details)


def _named(value: Any) -> Any:
    if isinstance(value, BaseException):
        return type(value).__name__
    return _functions.qualified_name(value) if callable(value) else value


def _check_effects(fault: Any, latency: Any, outcome: Any, behaviour: Any) -> None:
    if fault is None and latency is None and outcome is NO_OUTCOME and behaviour is None:
        raise ConfigurationError("Chaos: nothing to do; give a fault, a latency, an outcome or a behaviour")
    if fault is not None and outcome is not NO_OUTCOME:
        raise ConfigurationError("Chaos: a fault and an outcome exclude each other; make two policies")
    if fault is not None and not isinstance(fault, BaseException) and not callable(fault):
        raise ConfigurationError(f"Chaos: fault={fault!r} must be an exception, or make one")
    checked("Chaos", "behaviour", behaviour, "a function", ok=callable(behaviour))


def _drawn(latency: Latency | None) -> tuple[Callable[[random.Random], float], float]:
    """What draws the seconds of one call, and the most that it can draw."""
    if callable(latency):
        return latency, math.inf
    least, most = latency if isinstance(latency, tuple) else (latency or 0.0, latency or 0.0)
    if not 0 <= least <= most < math.inf:
        raise ConfigurationError(
            f"Chaos: latency={latency!r} must be seconds of at least 0, or a pair of them"
        )
    return (lambda chance: chance.uniform(least, most)), most


def _check_numbers(rate: float | None, max_duration: float | None, after_items: int) -> None:
    checked("Chaos", "rate", rate, "from 0 to 1", ok=rate is None or 0 <= rate <= 1)
    finite = max_duration is None or 0 < max_duration < math.inf
    checked("Chaos", "max_duration", max_duration, "above 0 seconds, and finite", ok=finite)
    checked("Chaos", "after_items", after_items, "at least 0", ok=after_items >= 0)
