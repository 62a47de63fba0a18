"""Pipelines in the standard order, built from settings, and what a pipeline can cost at worst.

The order, outermost first: fallback, total deadline, bulkhead, retry, circuit breaker, attempt timeout. Every attempt
goes through the breaker; the bulkhead guards us, once per call; the fallback stands outside the deadline, so that our
own expiry degrades too (`docs/explanation/decisions/order-of-policies.md`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from . import config
from ._backoff import exponential
from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .fallback import Fallback
from .outcome import Classifier
from .pipeline import Pipeline
from .policy import Policy
from .retry import Kind, Retry
from .timeout import Timeout

__all__ = ["standard", "worst_case"]


def standard(
    name: str,
    *,
    kind: Kind = Kind.IDEMPOTENT_READ,
    operation: str | None = None,
    breaker: CircuitBreaker | None = None,
    bulkhead: Bulkhead | None = None,
    retry: Retry | None = None,
    total: Timeout | None = None,
    attempt: Timeout | None = None,
    fallback: Fallback | None = None,
    classifier: Classifier | None = None,
    is_failure: Callable[[Any], bool] | None = None,
) -> Pipeline:
    """A pipeline for the service ``name`` with its settings (``<NAME>_...`` variables, the ADR's, the defaults).

    ``kind`` says what may be retried. ``breaker`` and ``bulkhead`` are given where several pipelines share them; the
    other policies replace the standard ones. Without ``attempt`` an attempt timeout stands there only where the
    settings have one for the service (``ATTEMPT_TIMEOUT``).
    """
    seconds = config.current().attempt_timeout(name)
    per_attempt = attempt or (Timeout(seconds) if seconds is not None else None)
    policies: list[Policy | None] = [
        fallback,
        total or Timeout(),
        bulkhead or Bulkhead(name=name),
        retry or Retry(kind=kind),
        breaker or CircuitBreaker(name),
        per_attempt,
    ]
    present = [policy for policy in policies if policy is not None]
    return Pipeline(name, *present, operation=operation, classifier=classifier, is_failure=is_failure)


def worst_case(policies: Sequence[Policy]) -> dict[str, float | int | None]:
    """The most that one call can cost: ``requests`` to the dependency and ``seconds``; None where nothing bounds it."""
    retry = next((policy for policy in policies if isinstance(policy, Retry)), None)
    attempts = retry.max_attempts if retry is not None and retry.operation is not Kind.NON_IDEMPOTENT else 1
    outside, inside = _timeouts(policies, retry)
    queue = sum(policy.max_wait for policy in policies if isinstance(policy, Bulkhead))
    waits = (
        sum(exponential(n, retry.multiplier, retry.base, retry.wait_max) for n in range(1, attempts))
        if retry
        else 0.0
    )
    seconds = min([*outside, queue + attempts * min(inside, default=math.inf) + waits])
    return {"requests": attempts, "seconds": None if math.isinf(seconds) else seconds}


def _timeouts(policies: Sequence[Policy], retry: Retry | None) -> tuple[list[float], list[float]]:
    at = len(policies) if retry is None else list(policies).index(retry)
    split = [
        (index < at, policy.seconds) for index, policy in enumerate(policies) if isinstance(policy, Timeout)
    ]
    return [seconds for outer, seconds in split if outer], [seconds for outer, seconds in split if not outer]
