"""The retry loop at one site: what follows a failed attempt, and why."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import events, stacking
from ._machines.backoff import decorrelated, exponential, jittered, not_before
from ._past import Past
from ._retry_rules import Kind, Limit, first_match
from ._retry_state import RetryState
from .deadline import current_deadline
from .errors import Rejected, RetriesExhausted
from .metrics import Histogram, Sample
from .outcome import Verdict
from .policy import BadResult, Repeat, Site

if TYPE_CHECKING:
    from .retry import Retry


class RetryLoop(Repeat):
    """The loop of one pipeline."""

    def __init__(self, policy: Retry, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.keyed = policy.operation is Kind.IDEMPOTENT_WRITE and policy.idempotency_key is not None
        self.counts = RetryMeter(site)
        self.meter = self.attempts = self.counts
        self.budget = policy.budget
        self.budget.join(site, self.counts.calls)

    def recovered(self, attempt: int, took: float) -> None:
        """A later attempt succeeded, after so many seconds of its own."""
        self.counts.recovered += 1
        self.counts.successes.observe(took)

    def with_key(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments, with a key that all attempts share."""
        from uuid import uuid4  # costs 3 ms at import, and few operations carry keys

        name = self.policy.idempotency_key
        assert name is not None
        return kwargs if kwargs.get(name) is not None else {**kwargs, name: str(uuid4())}

    def again(
        self,
        attempt: int,
        began: float,
        now: float,
        exc: Exception,
        past: Past,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float | BaseException | None:
        """Seconds to wait before the next attempt, an exception to raise instead, or None to raise ``exc``."""
        if isinstance(exc, Rejected):  # there was no attempt
            last = past.last
            if last is not None:
                self._tried(last, attempt - 1, began, now)
            return last
        step = self._after(RetryState(self, fn, args, kwargs, attempt, began, now, exc), exc, past)
        (self.counts.retried if isinstance(step, float) else self.counts.failed).observe(now - past.since)
        return step

    def _after(self, state: RetryState, exc: Exception, past: Past) -> float | BaseException | None:
        """The same after an attempt that was made."""
        attempt, began, now = state.attempt_number, state.start_time, state.outcome_timestamp
        verdict = self.site.verdict(exc)
        if not self._may_retry(state, verdict):
            self._tried(exc, attempt, began, now)
            return None
        limit, failures = self._limit_of(exc, past)
        delay = self._delay(state, verdict, past, limit, failures)
        if self._must_stop(state, limit, failures):
            return self._exhausted(exc, attempt, began, now)
        if self._would_be_in_vain(now, delay, verdict) or self._was_retried_below(exc, began):
            self._tried(exc, attempt, began, now)
            return None
        if not self.budget.spend(now):
            self._refused(exc, attempt, began, now)
            return None
        past.last = exc
        past.begin(attempt + 1)
        self.counts.again(attempt + 1)
        self._tell_of_retry(attempt, now - past.since, delay, exc)
        return delay

    def _tell_of_retry(self, attempt: int, took: float, delay: float, exc: Exception) -> None:
        seconds = {"took": round(took, 3), "wait": round(delay, 3)}
        events.emit("retry", self.site.name, attempt=attempt, **seconds, error=type(exc).__name__)

    def _may_retry(self, state: RetryState, verdict: Verdict) -> bool:
        if self.policy.operation is Kind.NON_IDEMPOTENT:
            return False
        if self.policy.predicate is not None:
            return bool(self.policy.predicate(state))
        return verdict.retryable

    def _limit_of(self, exc: Exception, past: Past) -> tuple[Limit | None, int]:
        """The limit that the error falls under, and how many attempts of this call have failed so by now."""
        number = None if isinstance(exc, BadResult) else first_match(self.policy.limits, exc)
        if number is None:
            return None, 0
        failures = past.counts[number] = past.counts.get(number, 0) + 1
        return self.policy.limits[number], failures

    def _delay(
        self, state: RetryState, verdict: Verdict, past: Past, limit: Limit | None, failures: int
    ) -> float:
        policy = self.policy
        if policy.wait is not None:
            own = float(policy.wait(state))
        else:
            own = self._own_wait(state.attempt_number, past, limit, failures)
        spread = 0.0 if policy.jitter == "none" or not verdict.retry_after else policy.chance()
        asked = not_before(verdict.retry_after or 0.0, policy.retry_after_max, spread)
        state.upcoming_sleep = float(max(own, asked))
        return state.upcoming_sleep

    def _own_wait(self, attempt: int, past: Past, limit: Limit | None, failures: int) -> float:
        policy = self.policy
        multiplier, wait_max = pace_of(policy, limit)
        if limit is not None and limit.multiplier is not None:
            attempt = failures
        if policy.jitter == "decorrelated":
            past.wait = decorrelated(past.wait, multiplier, wait_max, policy.chance())
            return past.wait
        return jittered(
            exponential(attempt, multiplier, policy.base, wait_max), policy.jitter, policy.chance()
        )

    def _must_stop(self, state: RetryState, limit: Limit | None, failures: int) -> bool:
        if limit is not None and limit.max_attempts is not None and failures >= limit.max_attempts:
            return True
        if self.policy.stop is not None:
            return bool(self.policy.stop(state))
        return state.attempt_number >= self.policy.max_attempts

    def _would_be_in_vain(self, now: float, delay: float, verdict: Verdict) -> bool:
        """Whether the deadline cannot hold it, what stands inside would refuse it, or it may only begin too late."""
        deadline = current_deadline()
        if deadline is not None and now + delay >= deadline.when:
            return True
        if any(refuses_for(now) > delay for refuses_for in self.site.gates):
            return True
        return (verdict.retry_after or 0.0) > self.policy.retry_after_max

    def _was_retried_below(self, exc: Exception, began: float) -> bool:
        """Whether somebody below has retried already, and so we do not: attempts would multiply."""
        if self.policy.stacked:
            return False
        below = stacking.retried_below(exc, self, began)
        if below is not None:
            stacking.warn(self.site.name, self.policy.max_attempts, below)
        return below is not None

    def _exhausted(self, exc: Exception, attempts: int, began: float, now: float) -> BaseException | None:
        self.counts.exhausted += 1
        events.emit("retry_exhausted", self.site.name, attempts=attempts, error=type(exc).__name__)
        if self.policy.reraise or isinstance(exc, BadResult):
            self._tried(exc, attempts, began, now)
            return None
        exhausted = RetriesExhausted(self.site.name, attempts, now - began)
        exhausted.__cause__ = exc
        self._tried(exhausted, attempts, began, now, note=False)
        return exhausted

    def _refused(self, exc: Exception, attempt: int, began: float, now: float) -> None:
        events.emit("budget_refused", self.site.name, policy="retry", error=type(exc).__name__)
        _note(exc, self.site.name, f"attempt {attempt} in {now - began:.3g} s; the retry budget is used up")
        stacking.mark(exc, self, self.site.name, self.policy.max_attempts, now)

    def _tried(
        self, raised: Exception, attempts: int, began: float, now: float, *, note: bool = True
    ) -> None:
        """Leave on the exception that will be raised what was tried, where it was more than once."""
        if attempts > 1:
            if note:
                _note(raised, self.site.name, f"{attempts} attempts in {now - began:.3g} s")
            stacking.mark(raised, self, self.site.name, self.policy.max_attempts, now)


def pace_of(policy: Retry, limit: Limit | None) -> tuple[float, float]:
    """The first and the longest wait."""
    if limit is None:
        return policy.multiplier, policy.wait_max
    return (
        policy.multiplier if limit.multiplier is None else limit.multiplier,
        policy.wait_max if limit.wait_max is None else limit.wait_max,
    )


class RetryMeter:
    """The numbers of one loop; ``first`` and ``once`` are counted by the frame (`policy.Attempts`)."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.first = 0
        self.later: dict[int, int] = {}
        self.exhausted = 0
        self.recovered = 0
        self.once, self.successes = Histogram(), Histogram()
        self.retried, self.failed = Histogram(), Histogram()

    def calls(self) -> int:
        """First attempts so far."""
        return self.first

    def again(self, attempt: int) -> None:
        """Count a later attempt."""
        self.later[attempt] = self.later.get(attempt, 0) + 1

    def samples(self) -> Iterator[Sample]:
        """The numbers as they are now."""
        name = self.site.name
        for attempt, count in [(1, self.first), *self.later.items()]:
            yield Sample("retry_attempts_total", (name, str(attempt)), count)
        yield Sample("retry_exhausted_total", (name,), self.exhausted)
        yield Sample("retry_success_after_retry_total", (name,), self.recovered)
        ends = {
            "success": self.successes.with_those_of(self.once),
            "retried": self.retried.value(),
            "failed": self.failed.value(),
        }
        for outcome, value in ends.items():
            yield Sample("resilience_attempt_duration_seconds", (name, self.site.operation, outcome), value)


def _note(exc: Exception, name: str, tried: str) -> None:
    """Say on the exception what was tried, in place of what an earlier call said on the same object."""
    head, tail = "resilience: ", f" ({name})"
    with contextlib.suppress(Exception):  # a frozen dataclass may be an exception
        notes = getattr(exc, "__notes__", [])
        notes[:] = [note for note in notes if not (note.startswith(head) and note.endswith(tail))]
        exc.add_note(f"{head}{tried}{tail}")
