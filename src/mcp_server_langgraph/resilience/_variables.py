"""The table of the layer's settings: their names in the environment, defaults, and what is allowed.

How they are looked up, and which value wins, stands in `config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ._readers import (
    algorithm,
    at_least_one,
    count,
    exceptions,
    listeners,
    nonnegative,
    part,
    positive,
    rate,
    share,
    switch,
    whole,
)

__all__ = ["DEFAULTS", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: its name in the environment, its default, how to read it, and what is allowed in words."""

    name: str
    default: Any
    read: Callable[[str], Any]
    allowed: str
    help: str


_WHOLE = "a whole number of at least 1"
_COUNT = "a whole number of at least 0"
_SECONDS = "a number of seconds above 0"
_SHARE = "a number between 0 and 1"
_SECONDS_OR_NONE = "a number of seconds of at least 0"
_RATE = "a number above 0 and at most 1"
_SWITCH = "true or false (also 1/0, yes/no, on/off)"
_PATHS = "dotted paths of {}, separated by commas"

DEFAULTS: Final[dict[str, Variable]] = {
    variable.name: variable
    for variable in (
        Variable("FF_ENABLE_RESILIENCE_PATTERNS", True, switch, _SWITCH, "Off: bare calls, no fallback."),
        Variable(
            *("CIRCUIT_BREAKER_FAIL_MAX", 5, count, _COUNT),
            "Failures in a row that open the breaker; 0: they do not (then a rate must).",
        ),
        Variable(
            *("CIRCUIT_BREAKER_FAILURE_RATE", None, rate, _RATE),
            "Share of failed calls in the window that opens it; unset: it does not.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_SLOW_RATE", None, rate, _RATE),
            "Share of slow calls in the window that opens it; unset: it does not.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_SLOW_AFTER", None, positive, _SECONDS),
            "When a call is slow; needed where the slow rate is set.",
        ),
        Variable("CIRCUIT_BREAKER_WINDOW", 100, whole, _WHOLE, "Calls that rates are measured over."),
        Variable(
            *("CIRCUIT_BREAKER_WINDOW_SECONDS", None, positive, _SECONDS),
            "Measures rates over a time instead; unset: over a number of calls.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_MINIMUM_CALLS", 20, whole, _WHOLE),
            "Calls in the window from which on a rate says something.",
        ),
        Variable("CIRCUIT_BREAKER_TIMEOUT_DURATION", 60.0, positive, _SECONDS, "How long it stays open."),
        Variable(
            *("CIRCUIT_BREAKER_BACKOFF", 2.0, at_least_one, "a number of at least 1"),
            "How much longer each further break in a row is; 1: they do not grow.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_TIMEOUT_MAX", 60.0, positive, _SECONDS),
            "How long a break grows at most (the first one may be longer).",
        ),
        Variable("CIRCUIT_BREAKER_HALF_OPEN_MAX", 1, whole, _WHOLE, "Probes at a time after a break."),
        Variable(
            *("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", 1, whole, _WHOLE),
            "Good probes that close the breaker.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_RAMP", 0.0, nonnegative, _SECONDS_OR_NONE),
            "For how long only a growing share is let in after closing; 0: all at once.",
        ),
        Variable(
            *("CIRCUIT_BREAKER_EXPECTED_EXCEPTION", (Exception,), exceptions),
            *(_PATHS.format("exceptions"), "Only these can count as failures."),
        ),
        Variable(
            *("CIRCUIT_BREAKER_LISTENERS", (), listeners),
            *(
                _PATHS.format("pybreaker-style listeners"),
                "Added to every breaker; the metrics listener is built in.",
            ),
        ),
        Variable("RETRY_STOP_AFTER_ATTEMPT", 3, whole, _WHOLE, "Attempts in all, the first one too."),
        Variable(
            "RETRY_WAIT_EXPONENTIAL_MULTIPLIER",
            1.0,
            nonnegative,
            "a number of at least 0",
            "First wait, seconds.",
        ),
        Variable(
            "RETRY_WAIT_EXPONENTIAL_MAX",
            10.0,
            nonnegative,
            "a number of at least 0",
            "Longest wait, seconds.",
        ),
        Variable(
            *("RETRY_BUDGET_RATIO", 0.2, nonnegative, "a number of at least 0"),
            "Retries and hedges stay below this share of the traffic.",
        ),
        Variable(
            *("RETRY_BUDGET_PER_SECOND", 1.0, nonnegative, "a number of at least 0"),
            "Retries and hedges a second that are always allowed.",
        ),
        Variable("RETRY_RERAISE", True, switch, _SWITCH, "Off: RetriesExhausted instead of the last error."),
        Variable("DEFAULT_TIMEOUT", 30.0, positive, _SECONDS, "Total time of a call to any other service."),
        Variable("LLM_TIMEOUT", 60.0, positive, _SECONDS, "Total time of a call to a model."),
        Variable("AUTH_TIMEOUT", 5.0, positive, _SECONDS, "Total time of a call to OpenFGA or Keycloak."),
        Variable("DB_TIMEOUT", 10.0, positive, _SECONDS, "Total time of a call to Redis or a database."),
        Variable(
            "HTTP_TIMEOUT",
            15.0,
            positive,
            _SECONDS,
            "Total time of a call to Prometheus or another HTTP service.",
        ),
        Variable(
            "ATTEMPT_TIMEOUT", None, positive, _SECONDS, "Time of one attempt; unset: only the total binds."
        ),
        Variable(
            "STREAM_FIRST_ITEM_TIMEOUT",
            None,
            positive,
            _SECONDS,
            "Wait for the first item of a stream that has a limit for it; unset: as code says.",
        ),
        Variable(
            "STREAM_IDLE_TIMEOUT",
            None,
            positive,
            _SECONDS,
            "Wait between two items of a stream that has a limit for it; unset: as code says.",
        ),
        Variable("LLM_CONCURRENCY_LIMIT", 10, whole, _WHOLE, "Calls to one model provider at once."),
        Variable("OPENFGA_CONCURRENCY_LIMIT", 50, whole, _WHOLE, "Permission checks at once."),
        Variable("REDIS_CONCURRENCY_LIMIT", 100, whole, _WHOLE, "Redis operations at once."),
        Variable("DB_CONCURRENCY_LIMIT", 20, whole, _WHOLE, "Database operations at once."),
        Variable("CONCURRENCY_LIMIT", 20, whole, _WHOLE, "Calls to any other service at once."),
        Variable(
            *("CACHE_TTL", 0.0, nonnegative, "a number of at least 0"),
            "Seconds for which an answer is given again without asking; 0: not at all.",
        ),
        Variable(
            *("CACHE_MAX_AGE", 300.0, nonnegative, "a number of at least 0"),
            "Seconds up to which an answer may stand in for an unavailable service; 0: not at all.",
        ),
        Variable("CACHE_MAX_SIZE", 1024, whole, _WHOLE, "Answers that a cache keeps."),
        Variable("CHAOS_ENABLED", False, switch, _SWITCH, "On: chaos that the code wants strikes calls."),
        Variable(
            "CHAOS_RATE", 0.001, share, "a number from 0 to 1", "Share of the calls that chaos strikes."
        ),
        Variable(
            "CHAOS_MAX_DURATION", 900.0, positive, _SECONDS, "Chaos ends by itself after so many seconds."
        ),
        Variable("CHAOS_ALLOW_PRODUCTION", False, switch, _SWITCH, "On: chaos may strike in production too."),
        Variable(
            *("ENVIRONMENT", None, str.strip, "any word"),
            "What the process runs in; `production`, `prod`, `prd` and `live` refuse chaos.",
        ),
        Variable(
            "BULKHEAD_MAX_QUEUE",
            None,
            count,
            _COUNT,
            "Calls that may wait for a place; unset: as many as places.",
        ),
        Variable(
            "BULKHEAD_MAX_WAIT",
            None,
            nonnegative,
            "a number of at least 0",
            "Longest wait for a place, seconds.",
        ),
        Variable(
            "RATE_LIMIT_PERMITS",
            None,
            positive,
            "a number above 0",
            "Permits in each period; unset: no limit.",
        ),
        Variable("RATE_LIMIT_PER", 1.0, positive, _SECONDS, "The period of a rate limit."),
        Variable(
            "RATE_LIMIT_BURST",
            None,
            positive,
            "a number above 0",
            "Permits at once; unset: those of a period.",
        ),
        Variable(
            "RATE_LIMIT_MAX_WAIT",
            0.0,
            nonnegative,
            "a number of at least 0",
            "Longest wait for a permit, seconds.",
        ),
        Variable("KEYED_MAX_KEYS", 1000, whole, _WHOLE, "Keys with a policy of their own, at most."),
        Variable("KEYED_MAX_LABELS", 20, count, _COUNT, "Keys with a label of their own in the metrics."),
        Variable(
            *("ADAPTIVE_ALGORITHM", "gradient2", algorithm),
            *("gradient2, vegas or aimd", "What moves an adaptive limit."),
        ),
        Variable("ADAPTIVE_INITIAL_LIMIT", 20, whole, _WHOLE, "Calls at once that it begins with."),
        Variable("ADAPTIVE_MIN_LIMIT", 1, whole, _WHOLE, "Calls at once that it allows at the least."),
        Variable("ADAPTIVE_MAX_LIMIT", 200, whole, _WHOLE, "Calls at once that it allows at the most."),
        Variable(
            *("ADAPTIVE_MAX_QUEUE", None, count),
            *(_COUNT, "Calls that may wait before it; unset: as many as it allows at once."),
        ),
        Variable("ADAPTIVE_QUEUE_TARGET", 0.005, positive, _SECONDS, "Longest wait while the line stands."),
        Variable("ADAPTIVE_QUEUE_INTERVAL", 0.1, positive, _SECONDS, "Longest wait otherwise."),
        Variable(
            "COOLDOWN_MAX_WAIT",
            0.0,
            nonnegative,
            "a number of at least 0",
            "Longest wait for its end, seconds.",
        ),
        Variable(
            "COOLDOWN_FIRST",
            1.0,
            nonnegative,
            "a number of at least 0",
            "Seconds after a 429 that does not say how many, doubling; 0: none.",
        ),
        Variable(
            "COOLDOWN_LONGEST",
            60.0,
            nonnegative,
            "a number of at least 0",
            "The most that it doubles to, seconds.",
        ),
        Variable(
            "COOLDOWN_JITTER", 0.1, share, _SHARE, "Share of the time over which those who waited come back."
        ),
        Variable(
            "THROTTLE_K", 2.0, at_least_one, "a number of at least 1", "Calls sent for each one accepted."
        ),
        Variable("THROTTLE_MAX_REJECTION", 0.9, share, _SHARE, "The largest share of calls that is shed."),
        Variable("THROTTLE_WINDOW", 120.0, positive, _SECONDS, "How long a call is remembered."),
        Variable("THROTTLE_MIN_REQUESTS", 10, count, _COUNT, "Calls in that time before any is shed."),
        Variable(
            "HEDGE_DELAY",
            None,
            positive,
            _SECONDS,
            "Time after which a call is hedged; unset: the quantile of recent latencies.",
        ),
        Variable(
            *("HEDGE_QUANTILE", 0.95, part, "a number above 0 and below 1"),
            "Share of calls that answer before they would be hedged.",
        ),
        Variable("HEDGE_MAX", 1, count, _COUNT, "Hedges of one call; 0: none."),
        Variable(
            "SHED_MAX_LAG",
            0.05,
            positive,
            _SECONDS,
            "Mean lag of the event loop above which calls are shed.",
        ),
        Variable(
            "SHED_MAX_QUEUE_DELAY",
            0.02,
            positive,
            _SECONDS,
            "Mean wait before the door above which they are.",
        ),
        Variable(
            *("QUOTA_MAX_WAIT", 0.0, nonnegative, "a number of at least 0"),
            "Longest wait for the provider's quota, seconds.",
        ),
        Variable(
            *("OUTLIER_CONSECUTIVE_FAILURES", 5, whole, _WHOLE),
            "Failures in a row that eject an endpoint.",
        ),
        Variable(
            *("OUTLIER_INTERVAL", 10.0, positive, _SECONDS),
            "How long calls are counted before endpoints are compared.",
        ),
        Variable(
            *("OUTLIER_BASE_EJECTION", 30.0, positive, _SECONDS),
            "How long the first ejection lasts; times the number of ejections.",
        ),
        Variable("OUTLIER_MAX_EJECTION", 300.0, positive, _SECONDS, "The longest an ejection lasts."),
        Variable(
            "OUTLIER_MAX_SHARE",
            0.3,
            share,
            _SHARE,
            "Share of the endpoints that may be ejected; at least one.",
        ),
        Variable("OUTLIER_PANIC_SHARE", 0.5, share, _SHARE, "Where more than that are out, all are used."),
    )
}
