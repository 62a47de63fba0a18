"""Retry: try again where that can help and cannot hurt.

By kind of operation: an idempotent read is retried (the bare decorator's default), an idempotent write is retried
with the same key on every attempt, anything else never. Then by kind of error: what the shared classifier calls
retryable (connection errors, timeouts, 408, 429, 5xx), never 4xx, bugs, cancellation or our own rejections. The wait
is exponential with jitter; Retry-After is a minimum; no attempt is begun that the deadline cannot hold, or that the
budget refuses, or where somebody below has retried already.

Errors: the dependency's last exception, with a note of attempts and time; `RetriesExhausted` from it where
``RETRY_RERAISE`` is false. Events: ``retry``, ``retry_exhausted``, ``budget_refused``. Metrics: ``retry_*``. The
loop: `_retry_loop`; the waits: `_machines.backoff`; what is allowed to whom: `_retry_rules`, `budget`, `stacking`.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from . import _stack, config
from ._machines.backoff import Jitter, exponential
from ._retry_loop import RetryLoop, pace_of
from ._retry_rules import Kind, Limit, check_attempts, check_kind, check_seconds, check_wait, throttled
from ._retry_state import RetryState, only_exceptions
from .budget import Budget
from .errors import ConfigurationError
from .policy import Cost, Policy, Repeat, Site

__all__ = ["Kind", "Limit", "Retry", "retry_with_backoff", "throttled"]

F = TypeVar("F", bound=Callable[..., Any])

Strategy = Callable[[Any], Any]


class Retry(Policy):
    """Retry failed attempts.

    ``max_attempts``: attempts in all (>= 1; default 3). ``kind``: see `Kind`. The wait after attempt n is
    ``multiplier * base ** (n - 1)`` seconds, at most ``wait_max`` (defaults 1, 2, 10), spread by ``jitter``: "full"
    (from 0), "equal" (from half), "none", or "decorrelated" (between ``multiplier`` and three times the wait before).
    ``limits``: other numbers for classes of errors, see `Limit`; the first that matches counts. ``retry_after_max``: a
    dependency that asks for a longer wait (seconds, default 60) is not retried. ``idempotency_key``: for an idempotent
    write, the keyword argument that carries the key: made once per call where the caller gave none, the same on every
    attempt; None: the write is idempotent by nature (a PUT). ``reraise``: False raises `RetriesExhausted` from the last
    error.

    ``stop``, ``wait``, ``retry``: tenacity's objects, or functions that take a `RetryState`; they replace
    ``max_attempts``, the exponential wait, and the classifier's word on what is retryable. Cancellation and the
    layer's own rejections are never offered to them.

    ``budget``: what retries may cost in all, see `Budget`; None: one of its own, from the settings; `Budget.unlimited`:
    no limit. Where it refuses, the last error is raised. ``stacked``: True retries although somebody below has
    (another pipeline, or a client that tells it): attempts multiply. See `stacking`.

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
        limits: Sequence[Limit] = (),
        retry_after_max: float = 60.0,
        idempotency_key: str | None = None,
        reraise: bool | None = None,
        budget: Budget | None = None,
        stacked: bool = False,
        stop: Strategy | None = None,
        wait: Strategy | None = None,
        retry: Strategy | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        check_attempts("Retry", max_attempts)
        check_seconds("Retry", multiplier=multiplier, wait_max=wait_max, retry_after_max=retry_after_max)
        check_wait(base, jitter)
        for strategy in (stop, wait, retry):
            if inspect.iscoroutinefunction(strategy) or inspect.iscoroutinefunction(type(strategy).__call__):
                raise ConfigurationError(f"Retry: {strategy!r} is asynchronous; its plain twin is needed")
        self.operation = check_kind(kind)
        self.base = base
        self.jitter: Jitter = jitter
        self.retry_after_max = retry_after_max
        self.idempotency_key = idempotency_key
        self.limits = tuple(limits)
        self.budget = budget or Budget()
        self.stacked = stacked
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
        limits = {"limits": self.limits} if self.limits else {}
        return {
            "max_attempts": self.max_attempts,
            "kind": self.operation.value,
            "multiplier": self.multiplier,
            "base": self.base,
            "wait_max": self.wait_max,
            "jitter": self.jitter,
            **limits,
            "retry_after_max": self.retry_after_max,
            "budget": self.budget,
        }

    def worst_case(self, inner: Cost) -> Cost:
        """All attempts, and the longest waits between them: the dependency may ask for `retry_after_max` each time."""
        attempts = 1 if self.operation is Kind.NON_IDEMPOTENT else self.max_attempts
        waited = sum(max(self._longest_wait(n), self.retry_after_max) for n in range(1, attempts))
        return Cost(inner.requests * attempts, inner.seconds * attempts + waited)

    def _longest_wait(self, number: int) -> float:
        """After attempt ``number``, whatever the error and the chance."""
        first, base = (3.0, 3.0) if self.jitter == "decorrelated" else (1.0, self.base)
        waits = [pace_of(self, limit) for limit in (None, *self.limits)]
        return max(exponential(number, multiplier * first, base, wait_max) for multiplier, wait_max in waits)

    def bind(self, site: Site) -> Repeat:
        """The loop of one pipeline."""
        if self.predicate is not None and not only_exceptions(self.predicate):
            site.judge_result = _either(site.judge_result, self._wants_other_result)
        return RetryLoop(self, site)

    def _wants_other_result(self, result: Any) -> bool:
        assert self.predicate is not None
        return bool(self.predicate(RetryState.of_result(result)))


def _either(one: Callable[[Any], bool] | None, other: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return other if one is None else lambda result: one(result) or other(result)


def retry_with_backoff(
    max_attempts: int | None = None, exponential_base: float = 2.0, **options: Any
) -> Callable[[F], F]:
    """Decorate a function with retries (see `Retry` for the settings)."""

    _stack.refuse_bare("retry_with_backoff", max_attempts)

    def decorate(fn: F) -> F:
        return _stack.add(Retry(max_attempts, base=exponential_base, **options), fn)

    return decorate
