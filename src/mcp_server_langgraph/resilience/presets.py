"""Pipelines in the standard order, built from settings.

The order, outermost first: fallback, total deadline, bulkhead, retry, circuit breaker, attempt timeout. Every attempt
goes through the breaker; the bulkhead guards us, once per call; the fallback stands outside the deadline, so that our
own expiry degrades too (`docs/explanation/decisions/order-of-policies.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import config
from .bulkhead import Bulkhead
from .circuit_breaker import CircuitBreaker
from .fallback import Fallback
from .outcome import Classifier
from .pipeline import Pipeline
from .policy import Policy
from .retry import Kind, Retry
from .timeout import Timeout

__all__ = ["standard"]


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
