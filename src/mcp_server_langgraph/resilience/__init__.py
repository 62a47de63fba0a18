"""Resilience for asyncio: circuit breaker, retry, timeout and deadline, bulkhead, fallback, hedging, limits, metrics.

    pipeline = Pipeline("search", Retry(max_attempts=3), CircuitBreaker("search"), Timeout(2))
    result = await pipeline.call(fetch, "python")

or, stacked, as ADR-0030 writes it::

    @circuit_breaker(name="openfga", fail_max=5, timeout=60)
    @retry_with_backoff(max_attempts=3, exponential_base=2)
    @with_timeout(seconds=5)
    @with_bulkhead(limit=50)
    async def check_permission(user: str, resource: str) -> bool: ...

Only the standard library is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from . import registry, stacking
from .budget import Budget
from .bulkhead import Bulkhead, with_bulkhead
from .circuit_breaker import CircuitBreaker, circuit_breaker
from .config import Settings
from .criticality import Criticality, criticality, current_criticality
from .deadline import current_deadline, detached, remaining
from .degradation import Degradation, collect_degradations
from .ended import Ended
from .errors import (
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    CoolingDown,
    DeadlineExceeded,
    LimitReached,
    Overloaded,
    QuotaUsed,
    RateLimited,
    Rejected,
    ResilienceError,
    RetriesExhausted,
    SettingsError,
    StreamInterrupted,
    Throttled,
    TimedOut,
)
from .events import Event, subscribe
from .metrics import CircuitBreakerMetricsListener
from .outcome import Outcome, Verdict, classify
from .pipeline import Pipeline
from .policy import Call, Policy
from .propagation import (
    Incoming,
    carried,
    current_attempt,
    current_hedge,
    in_thread,
    incoming,
    outgoing_headers,
)
from .retry import Kind, Limit, Retry, retry_with_backoff, throttled
from .timeout import Timeout, timeout, with_timeout

if TYPE_CHECKING:
    from .adaptive import AdaptiveLimit
    from .cache import Cache
    from .chaos import Chaos, Window
    from .cooldown import Cooldown
    from .fallback import Fallback, LastGood, Rung, Value, with_fallback
    from .hedge import Hedge, with_hedge
    from .keyed import Keyed
    from .outlier import Endpoints, Outlier, OutlierRules, current_endpoint
    from .quota import Quota, Usage
    from .rate_limit import RateLimit, Reservation
    from .shed import Shed
    from .throttle import Throttle

# What not every program needs is imported when it is first asked for: the import of the layer stays below 60 ms.
_LATER: Final = {
    "AdaptiveLimit": "adaptive",
    "Cache": "cache",
    "Chaos": "chaos",
    "Cooldown": "cooldown",
    "Endpoints": "outlier",
    "Fallback": "fallback",
    "Hedge": "hedge",
    "Keyed": "keyed",
    "LastGood": "fallback",
    "Outlier": "outlier",
    "OutlierRules": "outlier",
    "Quota": "quota",
    "RateLimit": "rate_limit",
    "Reservation": "rate_limit",
    "Rung": "fallback",
    "Shed": "shed",
    "Throttle": "throttle",
    "Usage": "quota",
    "Value": "fallback",
    "Window": "chaos",
    "current_endpoint": "outlier",
    "with_fallback": "fallback",
    "with_hedge": "hedge",
}

__all__ = [
    "AdaptiveLimit",
    "Budget",
    "Bulkhead",
    "BulkheadFull",
    "Cache",
    "Call",
    "Chaos",
    "CircuitBreaker",
    "CircuitBreakerMetricsListener",
    "CircuitOpen",
    "ConfigurationError",
    "Cooldown",
    "CoolingDown",
    "Criticality",
    "DeadlineExceeded",
    "Degradation",
    "Ended",
    "Endpoints",
    "Event",
    "Fallback",
    "Hedge",
    "Incoming",
    "Keyed",
    "Kind",
    "LastGood",
    "Limit",
    "LimitReached",
    "Outcome",
    "Outlier",
    "OutlierRules",
    "Overloaded",
    "Pipeline",
    "Policy",
    "Quota",
    "QuotaUsed",
    "RateLimit",
    "RateLimited",
    "Rejected",
    "Reservation",
    "ResilienceError",
    "RetriesExhausted",
    "Retry",
    "Rung",
    "Settings",
    "SettingsError",
    "Shed",
    "StreamInterrupted",
    "Throttle",
    "Throttled",
    "TimedOut",
    "Timeout",
    "Usage",
    "Value",
    "Verdict",
    "Window",
    "carried",
    "circuit_breaker",
    "classify",
    "collect_degradations",
    "criticality",
    "current_attempt",
    "current_criticality",
    "current_deadline",
    "current_endpoint",
    "current_hedge",
    "detached",
    "in_thread",
    "incoming",
    "outgoing_headers",
    "registry",
    "remaining",
    "retry_with_backoff",
    "stacking",
    "subscribe",
    "throttled",
    "timeout",
    "with_bulkhead",
    "with_fallback",
    "with_hedge",
    "with_timeout",
]


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
