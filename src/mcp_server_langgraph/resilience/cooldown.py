"""Cooldown: a dependency that told one call to wait is left alone by all of them.

It is not down, so this is no matter for a breaker; and one call's retry, which waits, would not keep the others away. A
429 starts it, or whatever else carries a Retry-After; where the provider does not say how long (Vertex), it is a second
and doubles. It is only ever extended, and those who waited come back one after the other, not as a herd.

Make one for each thing that has a limit of its own: a provider, an account and a model. It stands inside the retry.

Source: RFC 6585 section 4 and RFC 9110 section 10.2.3 (429, Retry-After); that it is never shortened: LiteLLM #40130.
The machine is in `_machines.cooldown`.

Errors: `CoolingDown`. Events: ``cooldown``, ``rejected``. Metrics: ``cooldown_*``.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from . import config, events
from ._checks import checked
from ._http_facts import status_of, terminal_quota
from ._machines.cooldown import CooldownMachine
from .deadline import now as current_time
from .deadline import patience
from .errors import CoolingDown, ResilienceError
from .metrics import Sample
from .policy import WAIT, Cost, Guard, Policy, Site

__all__ = ["Cooldown", "CooldownSnapshot"]

_TOO_MANY: Final = 429


@dataclass(frozen=True, slots=True)
class CooldownSnapshot:
    """A cooldown at one moment. ``state``: idle, cooling or returning; ``left``: seconds."""

    state: str
    left: float
    started: int
    rejected: int


class Cooldown(Policy):
    """Leaves a dependency alone for as long as it asked.

    ``max_wait``: seconds that a call may wait for its end (>= 0; default 0: refused at once, for where another
    dependency can be asked); one that would have to wait longer, or longer than its deadline, is refused at once.
    ``first``: seconds after a 429 that does not say how many (>= 0; 0: none; default 1), doubling up to ``longest``
    (default 60) until a call is served. ``jitter``: the share of the time (0 to 1; default 0.1) over which those who
    waited come back, on top of it.

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "cooldown"

    def __init__(
        self,
        *,
        max_wait: float | None = None,
        first: float | None = None,
        longest: float | None = None,
        jitter: float | None = None,
        name: str | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        for label, value in (("max_wait", max_wait), ("first", first), ("longest", longest)):
            checked("Cooldown", label, value, "at least 0 seconds", ok=value is None or value >= 0)
        checked("Cooldown", "jitter", jitter, "between 0 and 1", ok=jitter is None or 0 <= jitter <= 1)
        self.name = name
        self._named = name is not None
        self._explicit = (max_wait, first, longest, jitter)
        self.chance = chance
        self.machine = CooldownMachine()
        self.max_wait = 0.0
        self.lock = threading.RLock()
        self.counts = _CooldownMeter(self)
        self.apply(config.current(), name or "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings; a cooldown that has begun stays as it is."""
        max_wait, first, longest, jitter = self._explicit
        self.max_wait = settings.choose(service, "COOLDOWN_MAX_WAIT", max_wait)
        self.machine.first = settings.choose(service, "COOLDOWN_FIRST", first)
        self.machine.longest = settings.choose(service, "COOLDOWN_LONGEST", longest)
        self.machine.jitter = settings.choose(service, "COOLDOWN_JITTER", jitter)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        machine = self.machine
        return {
            "max_wait": self.max_wait,
            "first": machine.first,
            "longest": machine.longest,
            "jitter": machine.jitter,
        }

    def worst_case(self, inner: Cost) -> Cost:
        """The wait comes on top."""
        return inner._replace(seconds=inner.seconds + self.max_wait)

    def snapshot(self) -> CooldownSnapshot:
        """The cooldown now."""
        now = current_time()
        state, left = self.machine.state(now), self.machine.left(now)
        return CooldownSnapshot(state, left, self.counts.started, self.counts.rejected)

    def start(self, seconds: float) -> None:
        """Leave the dependency alone for ``seconds`` from now, for whoever learns of it in another way."""
        now = current_time()
        self.refused(now, now, seconds)

    def refused(self, began: float, now: float, asked: float | None) -> None:
        """A call that began at ``began`` was told to wait ``asked`` seconds; None: it was not told how long."""
        with self.lock:
            cooling = self.machine.left(now) > 0
            longer = self.machine.refused(began, now, asked)
            if longer and not cooling:
                self.counts.started += 1
            seconds = self.machine.length
        if longer:
            events.emit("cooldown", self.label, seconds=round(seconds, 3), asked=asked is not None)

    def extend(self, seconds: float) -> bool:
        """Leave the dependency alone for ``seconds`` from now at least, as others who share its limit were told to.

        True where that is longer. Unlike `start` it is no finding of our own, which others would have to hear of.
        """
        now = current_time()
        with self.lock:
            cooling = self.machine.left(now) > 0
            longer = self.machine.told(now, seconds)
            if longer and not cooling:
                self.counts.started += 1
        if longer:
            events.emit("cooldown", self.label, seconds=round(seconds, 3), asked=True)
        return longer

    def refuses_for(self, now: float) -> float:
        """Seconds for which a call will be refused, as far as is known now."""
        return max(0.0, self.machine.left(now) - self.max_wait)

    def matters_until(self, now: float) -> float:
        """Until those who waited are back."""
        back = self.machine.returned_at(1.0)
        return back if back > now else -math.inf

    def bind(self, site: Site) -> Guard:
        """The guard of one pipeline; the cooldown is shared by all of them."""
        self.name = site.named(self.name, given=self._named)
        if site.inside_retry:
            site.gates.append(self.refuses_for)
        return _CooldownGuard(self, site)


class _CooldownGuard(Guard):
    waits = True

    def __init__(self, policy: Cooldown, site: Site) -> None:
        self.policy = policy
        self.machine = policy.machine
        self.meter = policy.counts
        self.site = site

    def enter(self, now: float) -> object:
        machine = self.machine
        if not machine.length or now >= machine.returned_at(1.0):
            return now
        left = machine.until - now
        if left > patience(self.policy.max_wait):
            raise self.refusal(left)
        return WAIT if self.policy.max_wait > 0 else now

    async def wait(self) -> float:
        clock = asyncio.get_running_loop().time
        wait = _Wait(self, clock())
        while (seconds := wait.step(clock())) > 0:  # noqa: ASYNC110 (it may be extended meanwhile)
            await asyncio.sleep(seconds)
        return clock()

    def wait_sync(self) -> float:
        wait = _Wait(self, time.monotonic())
        while (seconds := wait.step(time.monotonic())) > 0:
            time.sleep(seconds)
        return time.monotonic()

    def succeeded(self, token: float, now: float) -> None:
        if self.machine.strikes:
            self.machine.succeeded(token)

    def failed(self, token: float, now: float, exc: BaseException) -> None:
        if isinstance(exc, ResilienceError) or not isinstance(exc, Exception):
            return  # an open circuit has a time of its own
        asked = self.site.verdict(exc).retry_after
        if asked is not None or (status_of(exc) == _TOO_MANY and not terminal_quota(exc)):
            self.policy.refused(token, now, asked)

    def refusal(self, left: float) -> CoolingDown:
        self.policy.counts.rejected += 1
        events.emit("rejected", self.site.name, policy=CoolingDown.policy)
        # Those who come back by themselves are no herd either.
        spread = self.machine.returned_at(self.policy.chance()) - self.machine.until
        return CoolingDown(self.site.name, left + spread)


class _Wait:
    """One call's wait, which may be extended on the way."""

    def __init__(self, guard: _CooldownGuard, now: float) -> None:
        self.guard = guard
        self.end = now + patience(guard.policy.max_wait)
        self.chance = guard.policy.chance()

    def step(self, now: float) -> float:
        """Seconds to sleep before looking again; 0: the wait is over. The spread is no reason to refuse."""
        machine = self.guard.machine
        if machine.until > max(now, self.end):
            raise self.guard.refusal(machine.until - now)
        return min(machine.returned_at(self.chance), max(machine.until, self.end)) - now


class _CooldownMeter:
    def __init__(self, policy: Cooldown) -> None:
        self.policy = policy
        self.started = 0
        self.rejected = 0

    def samples(self) -> Iterator[Sample]:
        name = (self.policy.label,)
        yield Sample("cooldown_seconds_left", name, self.policy.machine.left(current_time()))
        yield Sample("cooldown_started_total", name, self.started)
        yield Sample("cooldown_rejected_total", name, self.rejected)
