"""The circuit breaker's state machine: pure, synchronous, ``now`` is an argument.

                    fail_max failures in a row
          ┌────────┐ ────────────────────────────▶ ┌──────┐ ◀───────────────┐
          │ CLOSED │                               │ OPEN │                 │ a probe failed
          └────────┘ ◀──┐                          └──────┘                 │
                        │ success_threshold           │ open_for elapsed,   │
                        │ probes succeeded            │ and a call came     │
                        │                             ▼                     │
                        │                        ┌───────────┐              │
                        └─────────────────────── │ HALF_OPEN │ ─────────────┘
                                                 └───────────┘

An admission is an object, and its identity is its generation: every transition makes a new one for the closed state,
and every probe gets its own. A result whose admission is neither the current one nor a live probe is stale and
changes nothing (Polly, failsafe-go and resilience4j judge it by the state that holds now).

Two attributes spare callers a question each: ``door`` is the admission of whoever comes now, where nothing has to be
asked, and ``quiet`` says that a success under it changes nothing here. Both are worked out by `settle`, after whatever
they depend on has changed; readers take no lock.

A probe's place has a lease: one that hangs, or whose caller vanished, gives its place up after ``lease`` seconds.
A cancelled probe gives it back at once.
"""

from __future__ import annotations

import enum
from typing import Final

TRANSITIONS: Final = (
    ("closed", "open", "fail_max failures in a row"),
    ("open", "half_open", "open_for seconds have passed and a call comes"),
    ("half_open", "closed", "success_threshold probes succeeded"),
    ("half_open", "open", "a probe failed"),
)


class State(enum.Enum):
    """Where the automatic machine stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(enum.Enum):
    """Who decides: the machine, or an operator."""

    AUTOMATIC = "automatic"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    DISABLED = "disabled"
    METRICS_ONLY = "metrics_only"


class Admission:
    """The right to make one call (a probe), or any call of one closed period."""

    __slots__ = ("until",)

    def __init__(self, until: float = 0.0) -> None:
        self.until = until


class BreakerMachine:
    """Consecutive failures open it, probes close it. Settings may change at any time."""

    __slots__ = (
        *(
            "automatic",
            "closed",
            "door",
            "fail_max",
            "failures",
            "half_open_max",
            "heard",
            "lease",
            "open_for",
        ),
        *("opened_at", "probes", "quiet", "state", "success_threshold", "successes"),
    )

    def __init__(
        self,
        fail_max: int = 5,
        open_for: float = 60.0,
        *,
        half_open_max: int = 1,
        success_threshold: int = 1,
        lease: float = 60.0,
    ) -> None:
        self.fail_max = fail_max
        self.open_for = open_for
        self.half_open_max = half_open_max
        self.success_threshold = success_threshold
        self.lease = lease
        self.state = State.CLOSED
        self.closed: Admission | None = Admission()
        self.failures = 0
        self.opened_at = 0.0
        self.probes: set[Admission] = set()
        self.successes = 0
        # Whether the machine decides who comes in (not an operator), and whether anybody is told of every success.
        self.automatic = True
        self.heard = False
        self.door: Admission | None = None
        self.quiet = False
        self.settle()

    def settle(self) -> None:
        """Work ``door`` and ``quiet`` out anew. Without a door it is never quiet."""
        self.door = self.closed if self.automatic else None
        self.quiet = self.door is not None and not self.failures and not self.heard

    def admit(self, now: float) -> Admission | None:
        """Let a call in, or refuse it with None. In the closed state every call shares one admission."""
        if self.state is State.CLOSED:
            return self.closed
        if self.state is State.OPEN:
            if now < self.opened_at + self.open_for:
                return None
            self._half_open()
        return self._admit_probe(now)

    def succeeded(self, admission: Admission) -> None:
        """A call that was let in with ``admission`` succeeded."""
        if admission is self.closed:
            self.failures = 0
            self.settle()
        elif admission in self.probes:
            self.probes.discard(admission)
            self.successes += 1
            if self.successes >= self.success_threshold:
                self.close()

    def failed(self, admission: Admission, now: float) -> None:
        """It failed."""
        if admission is self.closed:
            self.failures += 1
            if self.failures >= self.fail_max:
                self.open(now)
            self.settle()
        elif admission in self.probes:
            self.open(now)

    def abandoned(self, admission: Admission) -> None:
        """It ended without saying anything about the dependency: the place is free again."""
        self.probes.discard(admission)

    def forget_admissions(self) -> None:
        """Let no result of a call that is under way have a say; the state stays, and probes' places are free."""
        self.probes.clear()
        if self.state is State.CLOSED:
            self.close()

    def retry_after(self, now: float) -> float | None:
        """Seconds until a call may be let in again; None where only the end of a probe will tell."""
        if self.state is State.OPEN:
            return max(0.0, self.opened_at + self.open_for - now)
        return None

    def open(self, now: float) -> None:
        """Stop letting calls in."""
        self.state = State.OPEN
        self.opened_at = now
        self.closed = None
        self.probes.clear()
        self.settle()

    def close(self) -> None:
        """Let every call in, and count from zero."""
        self.state = State.CLOSED
        self.closed = Admission()
        self.failures = 0
        self.probes.clear()
        self.settle()

    def _half_open(self) -> None:
        self.state = State.HALF_OPEN
        self.successes = 0
        self.probes.clear()

    def _admit_probe(self, now: float) -> Admission | None:
        if len(self.probes) >= self.half_open_max:
            self.probes = {probe for probe in self.probes if probe.until > now}
        if len(self.probes) >= self.half_open_max:
            return None
        probe = Admission(now + self.lease)
        self.probes.add(probe)
        return probe
