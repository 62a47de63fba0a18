"""What one breaker counted, and the breaker at one moment as a value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._machines.breaker_state import Mode, State
from .deadline import now as current_time
from .metrics import Sample

if TYPE_CHECKING:
    from .circuit_breaker import CircuitBreaker

__all__ = ["BreakerMeter", "BreakerSnapshot", "snapshot_of"]


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """A breaker at one moment. ``state``: what callers meet; ``automatic``: where the machine stands.

    Of the break that is on (None without one): ``opened_at`` and ``open_until`` on the clock of its calls, and
    ``because``: fail_max, failure_rate, slow_rate, probe_failed, probe_slow or quorum. ``reopenings``: breaks in a row
    before. ``failure_rate`` and ``slow_rate`` as they are now, None where they are not measured; ``measured_calls``:
    calls in the window; ``running``: timed calls in flight. ``ramping``: only a share is let in.
    """

    name: str
    state: str
    automatic: str
    consecutive_failures: int
    probes: int
    opened_at: float | None
    open_until: float | None
    because: str | None
    reopenings: int
    ramping: bool
    failure_rate: float | None
    slow_rate: float | None
    measured_calls: int
    running: int
    successes: int
    failures: dict[str, int]
    neutral: int
    rejected: int
    would_reject: int


def snapshot_of(breaker: CircuitBreaker) -> BreakerSnapshot:
    """The breaker now; its lock is held."""
    machine, counts, evidence = breaker.machine, breaker.counts, breaker.machine.evidence
    on_break = machine.state is not State.CLOSED
    calls, failure_rate, slow_rate = measured(breaker)
    return BreakerSnapshot(
        name=breaker.label,
        state=breaker.state,
        automatic=machine.state.value,
        consecutive_failures=machine.failures,
        probes=len(machine.probes),
        opened_at=machine.opened_at if on_break else None,
        open_until=machine.open_until if on_break else None,
        because=machine.because if on_break else None,
        reopenings=machine.reopenings,
        ramping=machine.ramp is not None,
        failure_rate=failure_rate,
        slow_rate=slow_rate,
        measured_calls=calls,
        running=len(evidence.running) + len(evidence.overdue) if evidence is not None else 0,
        successes=counts.successes,
        failures=dict(counts.failures),
        neutral=counts.neutral,
        rejected=counts.rejected,
        would_reject=counts.would_reject,
    )


def measured(breaker: CircuitBreaker) -> tuple[int, float | None, float | None]:
    """Calls in the window now, the share of failures and that of slow ones; None where it is not measured. The
    breaker's lock is held.
    """
    evidence = breaker.machine.evidence
    if evidence is None:
        return 0, None, None
    rules, (calls, failure_rate, slow_rate) = evidence.rules, evidence.measured(current_time())
    return calls, None if rules.failure_rate is None else failure_rate, slow_rate if rules.timed else None


class BreakerMeter:
    """Plain counters, read when somebody collects them."""

    __slots__ = ("breaker", "failures", "neutral", "rejected", "successes", "transitions", "would_reject")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.successes = 0
        self.neutral = 0
        self.rejected = 0
        self.would_reject = 0
        self.failures: dict[str, int] = {}
        self.transitions: dict[str, int] = {}

    def failure(self, exc: BaseException) -> None:
        """Count a failure by its type. Where a cancellation is one, it is our own total timeout that cut the call."""
        kind = "TimedOut" if isinstance(exc, asyncio.CancelledError) else type(exc).__name__
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
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
        with self.breaker.lock:
            _, failure_rate, slow_rate = measured(self.breaker)
        if failure_rate is not None:
            yield Sample("circuit_breaker_failure_rate", (name,), failure_rate)
        if slow_rate is not None:
            yield Sample("circuit_breaker_slow_rate", (name,), slow_rate)
