"""Retry: try again where that can help and cannot hurt.

By kind of operation: an idempotent read is retried (the bare decorator's default), an idempotent write is retried
with the same key on every attempt, anything else never. Then by kind of error: what the shared classifier calls
retryable (connection errors, timeouts, 408, 429, 5xx), never 4xx, bugs, cancellation or our own rejections. The wait
is exponential with jitter; Retry-After is a minimum; no attempt is begun that the deadline cannot hold.

Errors: the dependency's last exception, with a note of attempts and time; `RetriesExhausted` from it where
``RETRY_RERAISE`` is false. Events: ``retry``, ``retry_exhausted``, ``budget_refused``. Metrics: ``retry_*``. The
waits: `_backoff`.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from . import _stack, config, events
from ._backoff import Jitter, exponential, jittered
from ._retry_state import RetryState, only_exceptions
from .budget import Budget
from .deadline import current_deadline
from .errors import ConfigurationError, Rejected, RetriesExhausted
from .metrics import Sample
from .outcome import Verdict
from .policy import BadResult, Cost, Policy, Repeat, Site

__all__ = ["Kind", "Retry", "retry_with_backoff"]

F = TypeVar("F", bound=Callable[..., Any])

Strategy = Callable[[Any], Any]


class Kind(enum.Enum):
    """What kind of operation is retried. It wins over the kind of the error."""

    IDEMPOTENT_READ = "idempotent_read"
    IDEMPOTENT_WRITE = "idempotent_write"
    NON_IDEMPOTENT = "non_idempotent"


class Retry(Policy):
    """Retry failed attempts.

    ``max_attempts``: attempts in all (>= 1; default 3). ``kind``: see `Kind`. The wait after attempt n is
    ``multiplier * base ** (n - 1)`` seconds, at most ``wait_max`` (defaults 1, 2, 10), spread by ``jitter`` ("full",
    "equal", "none"). ``retry_after_max``: a dependency that asks for a longer wait (seconds, default 60) is not
    retried. ``idempotency_key``: for an idempotent write, the keyword argument that carries the key: made once per call
    where the caller gave none, the same on every attempt; None: the write is idempotent by nature (a PUT). ``reraise``:
    False raises `RetriesExhausted` from the last error.

    ``stop``, ``wait``, ``retry``: tenacity's objects, or functions that take a `RetryState`; they replace
    ``max_attempts``, the exponential wait, and the classifier's word on what is retryable. Cancellation and the
    layer's own rejections are never offered to them.

    ``budget``: what retries may cost in all, see `Budget`; None: one of its own, from the settings; `Budget.unlimited`:
    no limit. Where it refuses, the last error is raised.

    None means: from the settings. Raises `ConfigurationError` for values out of range.
    """

    kind: ClassVar[str] = "retry"

    def __init__(
        self,
        max_attempts: int | None = None,
        *,
        kind: Kind = Kind.IDEMPOTENT_READ,
        multiplier: float | None = None,
        base: float = 2.0,
        wait_max: float | None = None,
        jitter: Jitter = "full",
        retry_after_max: float = 60.0,
        idempotency_key: str | None = None,
        reraise: bool | None = None,
        budget: Budget | None = None,
        stop: Strategy | None = None,
        wait: Strategy | None = None,
        retry: Strategy | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        _check(max_attempts, multiplier, base, wait_max, jitter, retry_after_max)
        for strategy in (stop, wait, retry):
            if inspect.iscoroutinefunction(strategy) or inspect.iscoroutinefunction(type(strategy).__call__):
                raise ConfigurationError(f"Retry: {strategy!r} is asynchronous; its plain twin is needed")
        self.operation = _kind(kind)
        self.base = base
        self.jitter: Jitter = jitter
        self.retry_after_max = retry_after_max
        self.idempotency_key = idempotency_key
        self.budget = budget or Budget()
        self.stop = stop
        self.wait = wait
        self.predicate = retry
        self.chance = chance
        self._explicit = (max_attempts, multiplier, wait_max, reraise)
        self.max_attempts = 0
        self.multiplier = self.wait_max = 0.0
        self.reraise = True
        self.apply(config.current(), "")

    def apply(self, settings: config.Settings, service: str) -> None:
        """Take over changed settings, from the next attempt on."""
        attempts, multiplier, wait_max, reraise = self._explicit
        self.max_attempts = settings.choose(service, "RETRY_STOP_AFTER_ATTEMPT", attempts)
        self.multiplier = settings.choose(service, "RETRY_WAIT_EXPONENTIAL_MULTIPLIER", multiplier)
        self.wait_max = settings.choose(service, "RETRY_WAIT_EXPONENTIAL_MAX", wait_max)
        self.reraise = settings.choose(service, "RETRY_RERAISE", reraise)
        self.budget.apply(settings, service)

    def settings(self) -> Mapping[str, Any]:
        """The settings in force."""
        return {
            "max_attempts": self.max_attempts,
            "kind": self.operation.value,
            "multiplier": self.multiplier,
            "base": self.base,
            "wait_max": self.wait_max,
            "jitter": self.jitter,
        }

    def worst_case(self, inner: Cost) -> Cost:
        """All attempts, and the longest waits between them: the dependency may ask for `retry_after_max` each time."""
        attempts = 1 if self.operation is Kind.NON_IDEMPOTENT else self.max_attempts
        waits = (exponential(n, self.multiplier, self.base, self.wait_max) for n in range(1, attempts))
        waited = sum(max(wait, self.retry_after_max) for wait in waits)
        return Cost(inner.requests * attempts, inner.seconds * attempts + waited)

    def bind(self, site: Site) -> Repeat:
        """The loop of one pipeline."""
        if self.predicate is not None and not only_exceptions(self.predicate):
            site.judge_result = _either(site.judge_result, self._wants_other_result)
        return _RetryLoop(self, site)

    def _wants_other_result(self, result: Any) -> bool:
        assert self.predicate is not None
        return bool(self.predicate(RetryState.of_result(result)))


class _RetryLoop(Repeat):
    def __init__(self, policy: Retry, site: Site) -> None:
        self.policy = policy
        self.site = site
        self.keyed = policy.operation is Kind.IDEMPOTENT_WRITE and policy.idempotency_key is not None
        self.counts = _RetryMeter(site)
        self.meter = self.attempts = self.counts
        self.budget = policy.budget
        self.budget.join(site, self.counts.calls)

    def recovered(self, attempt: int) -> None:
        self.counts.recovered += 1

    def with_key(self, kwargs: dict[str, Any]) -> dict[str, Any]:
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
        last: Exception | None,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float | BaseException | None:
        if isinstance(exc, Rejected):
            return self._given_up(last, attempt - 1, now - began) if last is not None else None
        state = RetryState(self, fn, args, kwargs, attempt, began, now, exc)
        verdict = self.site.verdict(exc)
        if not self._may_retry(state, verdict, exc):
            return self._given_up(None, attempt, now - began, exc)
        delay = self._delay(state, verdict)
        if self._must_stop(state):
            return self._exhausted(exc, attempt, now - began)
        deadline = current_deadline()
        too_late = deadline is not None and now + delay >= deadline.when
        in_vain = any(refuses_for(now) > delay for refuses_for in self.site.gates)
        if too_late or in_vain or (verdict.retry_after or 0.0) > self.policy.retry_after_max:
            return self._given_up(None, attempt, now - began, exc)
        if not self.budget.spend(now):
            events.emit("budget_refused", self.site.name, policy="retry", error=type(exc).__name__)
            _note(
                exc, self.site.name, f"attempt {attempt} in {now - began:.3g} s; the retry budget is used up"
            )
            return None
        self.counts.again(attempt + 1)
        events.emit("retry", self.site.name, attempt=attempt, wait=round(delay, 3), error=type(exc).__name__)
        return delay

    def _may_retry(self, state: RetryState, verdict: Verdict, exc: Exception) -> bool:
        if self.policy.operation is Kind.NON_IDEMPOTENT:
            return False
        if self.policy.predicate is not None:
            return bool(self.policy.predicate(state))
        return verdict.retryable

    def _delay(self, state: RetryState, verdict: Verdict) -> float:
        policy = self.policy
        if policy.wait is not None:
            own = float(policy.wait(state))
        else:
            full = exponential(state.attempt_number, policy.multiplier, policy.base, policy.wait_max)
            own = jittered(full, policy.jitter, policy.chance())
        state.upcoming_sleep = float(max(own, verdict.retry_after or 0.0))
        return state.upcoming_sleep

    def _must_stop(self, state: RetryState) -> bool:
        if self.policy.stop is not None:
            return bool(self.policy.stop(state))
        return state.attempt_number >= self.policy.max_attempts

    def _exhausted(self, exc: Exception, attempts: int, seconds: float) -> BaseException | None:
        self.counts.exhausted += 1
        events.emit("retry_exhausted", self.site.name, attempts=attempts, error=type(exc).__name__)
        if self.policy.reraise or isinstance(exc, BadResult):
            return self._given_up(None, attempts, seconds, exc)
        exhausted = RetriesExhausted(self.site.name, attempts, seconds)
        exhausted.__cause__ = exc
        return exhausted

    def _given_up(
        self, instead: Exception | None, attempts: int, seconds: float, exc: Exception | None = None
    ) -> BaseException | None:
        """Note on the exception that will be raised what was tried, where it was more than once."""
        raised = instead or exc
        if raised is not None and attempts > 1:
            _note(raised, self.site.name, f"{attempts} attempts in {seconds:.3g} s")
        return instead


class _RetryMeter:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.first = 0
        self.later: dict[int, int] = {}
        self.exhausted = 0
        self.recovered = 0

    def calls(self) -> int:
        return self.first

    def again(self, attempt: int) -> None:
        self.later[attempt] = self.later.get(attempt, 0) + 1

    def samples(self) -> Iterator[Sample]:
        name = self.site.name
        for attempt, count in [(1, self.first), *self.later.items()]:
            yield Sample("retry_attempts_total", (name, str(attempt)), count)
        yield Sample("retry_exhausted_total", (name,), self.exhausted)
        yield Sample("retry_success_after_retry_total", (name,), self.recovered)


def _note(exc: Exception, name: str, tried: str) -> None:
    """Say on the exception what was tried, in place of what an earlier call said on the same object."""
    head, tail = "resilience: ", f" ({name})"
    with contextlib.suppress(Exception):  # a frozen dataclass may be an exception
        notes = getattr(exc, "__notes__", [])
        notes[:] = [note for note in notes if not (note.startswith(head) and note.endswith(tail))]
        exc.add_note(f"{head}{tried}{tail}")


def _either(one: Callable[[Any], bool] | None, other: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return other if one is None else lambda result: one(result) or other(result)


def _kind(kind: Kind) -> Kind:
    if not isinstance(kind, Kind):  # pyright: ignore[reportUnnecessaryIsInstance] (callers need not be typed)
        allowed = ", ".join(f"Kind.{each.name}" for each in Kind)
        raise ConfigurationError(f"Retry: kind={kind!r} must be one of {allowed}")
    return kind


def _check(
    max_attempts: float | None,
    multiplier: float | None,
    base: float,
    wait_max: float | None,
    jitter: str,
    retry_after_max: float,
) -> None:
    if max_attempts is not None and not (isinstance(max_attempts, int) and max_attempts >= 1):
        raise ConfigurationError(f"Retry: max_attempts={max_attempts!r} must be a whole number of at least 1")
    seconds = (("multiplier", multiplier), ("wait_max", wait_max), ("retry_after_max", retry_after_max))
    for label, value in seconds:
        if value is not None and not value >= 0:
            raise ConfigurationError(f"Retry: {label}={value!r} must be at least 0")
    if not base >= 1:
        raise ConfigurationError(f"Retry: base={base!r} must be at least 1")
    if jitter not in ("full", "equal", "none"):
        raise ConfigurationError(f'Retry: jitter={jitter!r} must be "full", "equal" or "none"')


def retry_with_backoff(
    max_attempts: int | None = None, exponential_base: float = 2.0, **options: Any
) -> Callable[[F], F]:
    """Decorate a function with retries (see `Retry` for the settings)."""

    _stack.refuse_bare("retry_with_backoff", max_attempts)

    def decorate(fn: F) -> F:
        return _stack.add(Retry(max_attempts, base=exponential_base, **options), fn)

    return decorate
