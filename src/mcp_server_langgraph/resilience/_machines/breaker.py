"""The circuit breaker's state machine: pure, synchronous, ``now`` is an argument, and so is chance.

                    too many failures, or slow calls
          ┌────────┐ ────────────────────────────▶ ┌──────┐ ◀───────────────┐
          │ CLOSED │                               │ OPEN │                 │ a probe failed
          └────────┘ ◀──┐                          └──────┘                 │
                        │ success_threshold           │ the break is over,  │
                        │ probes succeeded            │ and a call came     │
                        │                             ▼                     │
                        │                        ┌───────────┐              │
                        └─────────────────────── │ HALF_OPEN │ ─────────────┘
                                                 └───────────┘

An admission is an object, and its identity is its generation: every transition makes a new one for the closed state,
and every probe gets its own. A result whose admission is neither of the current period nor a live probe is stale and
changes nothing (Polly, failsafe-go and resilience4j judge it by the state that holds now).

Two attributes spare callers a question each: ``door`` is the admission of whoever comes now, where nothing has to be
asked, and ``quiet`` says that a success under it changes nothing here. Both are worked out by `settle`, after whatever
they depend on has changed; readers take no lock.

A probe's place has a lease: one that hangs, or whose caller vanished, gives its place up after ``lease`` seconds.
A cancelled probe gives it back at once. A probe that succeeds slowly, where slow calls are measured, has failed.

What opens it and for how long stands in `breaker_rules`, what is measured in `breaker_evidence`, the slow start after
closing in `breaker_ramp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from .breaker_evidence import Evidence
from .breaker_ramp import Ramp
from .breaker_rules import BreakerRules
from .breaker_state import Admission, State

__all__ = ["TOLD", "BreakerMachine"]

# Why it opened, where that is the word of others.
TOLD: Final = "quorum"


def _no_chance() -> float:
    return 1.0


class BreakerMachine:
    """Failures and slow calls open it, probes close it. ``chance`` gives numbers in [0, 1) for the length of breaks."""

    __slots__ = (
        *("automatic", "because", "chance", "closed", "closed_at", "door", "evidence", "failures", "heard"),
        *("not_before", "open_until", "opened_at", "probes", "quiet", "ramp", "reopenings", "rules"),
        *("spread", "state", "successes", "told_until"),
    )

    def __init__(
        self, rules: BreakerRules | None = None, *, chance: Callable[[], float] = _no_chance
    ) -> None:
        self.rules = rules or BreakerRules()
        self.chance = chance
        self.state = State.CLOSED
        self.closed: Admission | None = Admission()
        self.closed_at = -math.inf
        self.failures = 0
        self.evidence = Evidence(self.rules) if self.rules.measured else None
        self.ramp: Ramp | None = None
        # Of the break that is, or was last: why, how many in a row came before, and what chance said of its length.
        self.because: str | None = None
        self.opened_at = 0.0
        self.open_until = 0.0
        self.reopenings = 0
        self.spread = 0.0
        self.told_until = -math.inf  # the end of a break on the word of others
        self.not_before = -math.inf  # the dependency asked to be left alone until then
        self.probes: dict[Admission, None] = {}  # an empty set weighs three times as much
        self.successes = 0
        # Whether the machine decides who comes in (not an operator), and whether anybody is told of every success.
        self.automatic = True
        self.heard = False
        self.door: Admission | None = None
        self.quiet = False
        self.settle()

    def settle(self) -> None:
        """Work ``door``, ``quiet`` and the end of the break out anew. Without a door it is never quiet."""
        asks = self.ramp is not None or (self.evidence is not None and self.rules.timed)
        self.door = self.closed if self.automatic and not asks else None
        self.quiet = self.door is not None and not self.failures and self.evidence is None and not self.heard
        if self.because == TOLD:
            end = self.told_until
        else:
            end = self.opened_at + self.rules.break_for(self.reopenings, self.spread)
        self.open_until = max(end, self.not_before)

    def change(self, rules: BreakerRules) -> None:
        """Take over changed rules. The state stays, a break that is on gets its new length, and so does what was
        measured where the window's size is the same.
        """
        self.rules = rules
        if not rules.measured:
            self.evidence = None
        elif self.evidence is None:
            self.evidence = Evidence(rules)
        else:
            self.evidence.change(rules)
        if self.ramp is not None:
            self.ramp = self.ramp.changed(rules.ramp)
        self.settle()

    def admit(self, now: float) -> Admission | None:
        """Let a call in, or refuse it with None. In the closed state calls share one admission, unless their time
        matters.
        """
        if self.state is State.CLOSED:
            return self._admit_closed(now)
        if self.state is State.OPEN:
            if now < self.open_until:
                return None
            self._half_open()
        return self._admit_probe(now)

    def first_item_came(self, admission: Admission, now: float) -> None:
        """The first item of a stream came. If it came in time the call is not slow, however long the rest takes."""
        if now - admission.since < self.rules.slow_after:
            admission.since = math.nan
            if self.evidence is not None:
                self.evidence.left(admission)

    def succeeded(self, admission: Admission, now: float) -> None:
        """A call that was let in with ``admission`` succeeded."""
        if self._is_current(admission):
            if self.failures:
                self.failures = 0
                self.settle()
            because = self.evidence and self.evidence.ended(admission, now, False)
            if because:
                self.open(now, because)
        elif admission in self.probes:
            self.probes.pop(admission, None)
            self._probe_succeeded(admission, now)

    def failed(self, admission: Admission, now: float, retry_after: float | None = None) -> None:
        """It failed; perhaps the dependency said for how long it wants to be left alone."""
        probe = admission in self.probes
        if not probe and not self._is_current(admission):
            return
        if retry_after is not None:
            self.not_before = max(self.not_before, now + self.rules.believed(retry_after))
        if probe:
            self.open(now, "probe_failed")
            return
        self.failures += 1
        self.settle()
        because = self.evidence and self.evidence.ended(admission, now, True)
        if 0 < self.rules.fail_max <= self.failures:
            because = "fail_max"
        if because:
            self.open(now, because)

    def abandoned(self, admission: Admission) -> None:
        """It ended without saying anything about the dependency: the place is free again."""
        self.probes.pop(admission, None)
        if self.evidence is not None:
            self.evidence.left(admission)

    def forget_admissions(self) -> None:
        """Let no result of a call that is under way have a say; the state stays, and probes' places are free."""
        self.probes.clear()
        if self.state is State.CLOSED:
            self.close()

    def refuses_for(self, now: float) -> float:
        """Seconds for which every call will be refused."""
        return max(0.0, self.open_until - now) if self.state is State.OPEN else 0.0

    def retry_after(self, now: float) -> float | None:
        """Seconds after which the call refused last may come again; None where only the end of a probe will tell."""
        if self.state is State.CLOSED and self.ramp is not None:
            return self.ramp.retry_after(now)
        return None if self.state is State.HALF_OPEN else self.refuses_for(now)

    def open(self, now: float, because: str) -> None:
        """Stop letting calls in. One that soon follows a closing, or a probe, is a break in a row."""
        rules = self.rules
        in_a_row = self.state is State.HALF_OPEN or now - self.closed_at < max(rules.timeout, rules.ramp)
        self.reopenings = self.reopenings + 1 if in_a_row else 0
        self.spread = self.chance() if in_a_row else 0.0
        self.state = State.OPEN
        self.because = because
        self.opened_at = now
        self.closed = None
        self.ramp = None
        self.probes.clear()
        if self.evidence is not None:
            self.evidence.forget_running()
        self.settle()

    def told(self, now: float, seconds: float) -> bool:
        """Others find the dependency down, for so long; 0: no longer. True where that opens it.

        Only a closed circuit opens on their word, and only a break that is due to it gets their end: own evidence and
        probes under way say more.
        """
        opens = self.state is State.CLOSED and seconds > 0
        if opens:
            self.open(now, TOLD)
        elif self.state is not State.OPEN or self.because != TOLD:
            return False
        self.told_until = now + self.rules.believed(seconds)
        self.settle()
        return opens

    def close(self) -> None:
        """Let every call in, and count from zero, breaks in a row too."""
        self.closed_at = -math.inf
        self.reopenings = 0
        self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self.closed = Admission()
        self.failures = 0
        self.not_before = -math.inf
        self.ramp = None
        self.probes.clear()
        self.evidence = Evidence(self.rules) if self.rules.measured else None
        self.settle()

    def _half_open(self) -> None:
        self.state = State.HALF_OPEN
        self.successes = 0
        self.probes.clear()

    def _admit_closed(self, now: float) -> Admission | None:
        if self.ramp is not None and self.ramp.is_over(now):
            self.ramp = None
            self.settle()
        evidence = self.evidence
        because = evidence.too_slow(now) if evidence is not None and self.rules.timed else None
        if because is not None:
            self.open(now, because)
            return None
        if self.ramp is not None and not self.ramp.admits(now):
            return None
        if evidence is None or not self.rules.timed:
            return self.closed
        admission = Admission(self.closed, now)
        evidence.began(admission)
        return admission

    def _admit_probe(self, now: float) -> Admission | None:
        if len(self.probes) >= self.rules.half_open_max:
            self.probes = {probe: None for probe in self.probes if probe.until > now}
        if len(self.probes) >= self.rules.half_open_max:
            return None
        probe = Admission(None, now, now + self.rules.lease)
        self.probes[probe] = None
        return probe

    def _probe_succeeded(self, probe: Admission, now: float) -> None:
        if self.rules.timed and now - probe.since >= self.rules.slow_after:
            self.open(now, "probe_slow")
            return
        self.successes += 1
        if self.successes >= self.rules.success_threshold:
            self.closed_at = now
            self._close()
            self.ramp = Ramp(now, self.rules.ramp) if self.rules.ramp else None
            self.settle()

    def _is_current(self, admission: Admission) -> bool:
        closed = self.closed
        return closed is not None and (admission is closed or admission.period is closed)
