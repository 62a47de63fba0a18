"""The table of the layer's metrics. The names of the first ones are those of ADR-0030."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FAMILIES", "Family"]


class Family(NamedTuple):
    """What a metric is: its kind (counter, gauge, histogram), its label names and what it tells."""

    kind: str
    labels: tuple[str, ...]
    help: str


FAMILIES: Final[dict[str, Family]] = {
    "circuit_breaker_state": Family(
        "gauge", ("service", "state"), "1 for the state the breaker is in, 0 for others."
    ),
    "circuit_breaker_failures_total": Family(
        "counter", ("service", "error_type"), "Failures counted by the breaker."
    ),
    "circuit_breaker_success_total": Family("counter", ("service",), "Successes counted by the breaker."),
    "circuit_breaker_neutral_total": Family(
        "counter", ("service",), "Calls that said nothing about the dependency."
    ),
    "circuit_breaker_rejected_total": Family("counter", ("service",), "Calls refused by the breaker."),
    "circuit_breaker_transitions_total": Family(
        "counter", ("service", "state"), "Times the breaker entered a state."
    ),
    "circuit_breaker_failure_rate": Family(
        "gauge", ("service",), "Share of the window's calls that failed; only where a failure_rate is set."
    ),
    "circuit_breaker_slow_rate": Family(
        "gauge", ("service",), "Share of the window's calls that were slow; only where a slow_rate is set."
    ),
    "retry_attempts_total": Family(
        "counter", ("service", "attempt_number"), "Attempts, the first one and those refused inside too."
    ),
    "resilience_attempt_duration_seconds": Family(
        "histogram",
        ("service", "operation", "outcome"),
        "Time of single attempts: success, retried (another followed) or failed (the call ended with it).",
    ),
    "retry_exhausted_total": Family("counter", ("service",), "Calls that failed after their last attempt."),
    "retry_success_after_retry_total": Family("counter", ("service",), "Calls that a later attempt saved."),
    "retry_budget_balance": Family("gauge", ("service",), "Retries and hedges that could begin now."),
    "retry_budget_refused_total": Family(
        "counter", ("service",), "Retries and hedges that the budget refused."
    ),
    "timeout_violations_total": Family("counter", ("service", "operation"), "Calls cut by a timeout."),
    "timeout_duration_seconds": Family(
        "histogram", ("service", "operation"), "How long the cut calls had run."
    ),
    "bulkhead_rejections_total": Family("counter", ("service",), "Calls that got no place."),
    "bulkhead_queue_depth": Family("gauge", ("service",), "Calls waiting for a place now."),
    "bulkhead_active_operations": Family("gauge", ("service",), "Places taken now."),
    "bulkhead_limit": Family("gauge", ("service",), "Places there are."),
    "bulkhead_queue_wait_seconds": Family(
        "histogram", ("service",), "How long those had waited that got a place after a wait."
    ),
    "rate_limit_permits_left": Family(
        "gauge", ("service",), "Permits in the bucket now; below 0: owed. Absent where there is no limit."
    ),
    "rate_limit_queue_depth": Family("gauge", ("service",), "Calls waiting for permits now."),
    "rate_limit_rejected_total": Family("counter", ("service",), "Calls refused by a rate limit."),
    "adaptive_limit": Family("gauge", ("service",), "Calls at once that the adaptive limit allows now."),
    "adaptive_in_flight": Family("gauge", ("service",), "Calls that hold a place of it now."),
    "adaptive_queue_depth": Family("gauge", ("service",), "Calls that wait for a place of it now."),
    "adaptive_queue_wait_seconds": Family(
        "histogram", ("service",), "How long those had waited that got a place after a wait."
    ),
    "adaptive_rejections_total": Family(
        "counter",
        ("service", "reason", "criticality"),
        "Calls that got no place: queue_full, queue_time, displaced or deadline.",
    ),
    "cooldown_seconds_left": Family("gauge", ("service",), "Seconds for which it is left alone."),
    "cooldown_started_total": Family("counter", ("service",), "Times that it wanted to be left alone."),
    "cooldown_rejected_total": Family("counter", ("service",), "Calls refused meanwhile."),
    "llm_tokens_total": Family(
        "counter",
        ("model", "kind"),
        "Tokens that models told they used: input, cached_input (out of the provider's cache) and output.",
    ),
    "llm_cost_total": Family(
        "counter", ("model",), "What they cost, in the currency of the prices; only where a price is known."
    ),
    "quota_left": Family(
        "gauge", ("service", "dimension"), "What the provider said is left, less what was taken since."
    ),
    "quota_limit": Family("gauge", ("service", "dimension"), "The limit that the provider told."),
    "quota_queue_depth": Family("gauge", ("service",), "Calls waiting for quota now."),
    "quota_rejected_total": Family("counter", ("service",), "Calls refused for want of quota."),
    "throttle_share": Family("gauge", ("service",), "Share of the calls that the throttle sheds now."),
    "throttle_overloads_total": Family(
        "counter", ("service",), "Calls that the dependency refused as too many, or did not answer."
    ),
    "throttle_shed_total": Family(
        "counter", ("service", "criticality"), "Calls shed by the throttle, by how much they matter."
    ),
    "shed_total": Family(
        "counter", ("service", "criticality"), "Calls refused at the door of an overloaded process."
    ),
    "loop_lag_seconds": Family(
        "gauge", ("service",), "Mean lateness of the event loop's timers in the last window."
    ),
    "fallback_used_total": Family("counter", ("service", "source"), "Answers given by a fallback, by rung."),
    "fallback_failed_total": Family("counter", ("service",), "Calls for which no rung had an answer."),
    "cache_hits_total": Family(
        "counter", ("service", "kind"), "Calls answered without a request: fresh, stale or joined."
    ),
    "cache_misses_total": Family("counter", ("service",), "Calls that asked the dependency."),
    "chaos_active": Family("gauge", ("service",), "1 while chaos may strike calls, 0 otherwise."),
    "chaos_injected_total": Family(
        "counter", ("service", "kind"), "Faults, latencies, outcomes and behaviours injected."
    ),
    "deadline_expired_total": Family(
        "counter", ("service",), "Work not begun because nothing was left of its deadline."
    ),
    "incoming_repeated_total": Family(
        "counter", ("service",), "Requests that came in as a second or later attempt of their caller."
    ),
    "keyed_keys": Family("gauge", ("service",), "Keys that have a policy of their own now."),
    "keyed_evictions_total": Family("counter", ("service",), "Keys forgotten to make room."),
    "keyed_overflow_calls_total": Family(
        "counter", ("service",), "Calls whose key found no place and shared a policy."
    ),
    "hedge_started_total": Family("counter", ("service",), "Second attempts that were begun."),
    "hedge_won_total": Family("counter", ("service",), "Second attempts whose answer was taken."),
    "hedge_suppressed_total": Family(
        "counter",
        ("service", "reason"),
        "Second attempts not begun: budget, deadline, not_winning or saturated.",
    ),
    "hedge_wasted_seconds_total": Family(
        "counter", ("service",), "Time that attempts had worked which lost to another one."
    ),
    "hedge_delay_seconds": Family("gauge", ("service",), "Time after which a second attempt begins."),
    "outlier_ejected": Family("gauge", ("service", "endpoint"), "1 while the endpoint is ejected."),
    "outlier_ejections_total": Family("counter", ("service", "endpoint", "cause"), "Times it was ejected."),
    "outlier_panic": Family("gauge", ("service",), "1 while all endpoints are used, sick ones too."),
    "shared_connected": Family(
        "gauge", ("service",), "1 while other processes can be heard, 0 while this one is on its own."
    ),
    "shared_replicas": Family("gauge", ("service",), "Other processes that are heard now."),
    "shared_exchanges_total": Family(
        "counter",
        ("service", "outcome"),
        "Times that processes told each other what they know: ok or failed.",
    ),
    "shared_bad_reports_total": Family(
        "counter", ("service",), "Reports of other processes that could not be read."
    ),
    "shared_openings_total": Family(
        "counter", ("service",), "Times a quorum of other processes opened the breaker."
    ),
    "resilience_call_duration_seconds": Family(
        "histogram", ("service", "operation"), "Time of successful calls."
    ),
    "resilience_calls_total": Family(
        "counter", ("service", "operation", "outcome"), "Calls by how they ended."
    ),
}
