"""What there is, its numbers, and reload."""

from __future__ import annotations

import asyncio

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Event,
    Fallback,
    Pipeline,
    Policy,
    Retry,
    Settings,
    SettingsError,
    Timeout,
    Value,
    circuit_breaker,
    registry,
    retry_with_backoff,
    subscribe,
)
from mcp_server_langgraph.resilience.metrics import Metric


async def down() -> None:
    raise ConnectionError


async def fine() -> int:
    return 1


def number(name: str, *labels: str) -> object:
    (metric,) = (metric for metric in registry.metrics() if metric.name == name)
    return metric.samples[labels]


def test_a_reload_changes_what_exists_and_keeps_its_state() -> None:
    breaker = CircuitBreaker("svc")
    bulkhead = Bulkhead(name="svc")
    retry, total = Retry(), Timeout()
    pipeline = Pipeline("svc", total, bulkhead, retry, breaker)
    breaker.machine.failures = 3
    registry.reload(
        {
            "SVC_CIRCUIT_BREAKER_FAIL_MAX": "9",
            "CIRCUIT_BREAKER_TIMEOUT_DURATION": "7",
            "RETRY_STOP_AFTER_ATTEMPT": "2",
            "CONCURRENCY_LIMIT": "4",
            "DEFAULT_TIMEOUT": "3",
        }
    )
    assert (breaker.machine.rules.fail_max, breaker.machine.rules.timeout, breaker.machine.failures) == (
        9,
        7.0,
        3,
    )
    assert (retry.max_attempts, bulkhead.places.limit, total.seconds) == (2, 4, 3.0)
    assert pipeline.describe()["requests"] == 2


async def test_a_reload_keeps_an_open_circuit_failures_in_a_row_and_the_places_of_calls_in_flight() -> None:
    breaker = CircuitBreaker("svc")
    pipeline = Pipeline("svc", Bulkhead(2, max_queue=0, name="svc"), breaker)

    async def fails_late() -> None:
        await asyncio.sleep(5)
        raise ConnectionError

    for _ in range(3):
        await pipeline.try_call(down)
    flying = asyncio.ensure_future(pipeline.try_call(fails_late))
    await asyncio.sleep(1)
    registry.reload({"SVC_CIRCUIT_BREAKER_FAIL_MAX": "4", "SVC_CONCURRENCY_LIMIT": "1"})
    with pytest.raises(BulkheadFull):
        await pipeline.call(fine)
    assert isinstance((await flying).error, ConnectionError)
    assert breaker.state == "open"  # the fourth in a row: three before the reload, and the one in flight
    registry.reload({"SVC_CIRCUIT_BREAKER_FAIL_MAX": "9"})
    with pytest.raises(CircuitOpen):
        await pipeline.call(fine)


def test_an_operator_overrules_what_code_fixed_and_a_global_variable_does_not() -> None:
    breaker = CircuitBreaker("svc", fail_max=4)
    pipeline = Pipeline("svc", breaker)
    registry.reload({"CIRCUIT_BREAKER_FAIL_MAX": "8"})
    assert breaker.machine.rules.fail_max == 4
    registry.reload({"SVC_CIRCUIT_BREAKER_FAIL_MAX": "6"})
    assert breaker.machine.rules.fail_max == 6
    registry.reload({})
    assert breaker.machine.rules.fail_max == 4
    assert pipeline.name == "svc"


def test_a_bad_reload_changes_nothing_and_says_so() -> None:
    breaker = CircuitBreaker("svc")
    pipeline = Pipeline("svc", breaker)
    registry.reload({"CIRCUIT_BREAKER_FAIL_MAX": "8"})
    with pytest.raises(SettingsError, match="RETRY_RERAISE"):
        registry.reload({"CIRCUIT_BREAKER_FAIL_MAX": "2", "RETRY_RERAISE": "x"})
    assert breaker.machine.rules.fail_max == 8
    assert pipeline.snapshot()["bypassed"] is False


def test_a_reload_that_is_wrong_for_a_service_of_ones_own_changes_nothing_either() -> None:
    total = Timeout()
    pipeline = Pipeline("search", total)
    with pytest.raises(SettingsError, match="SEARCH_TIMEOUT"):
        registry.reload({"SEARCH_TIMEOUT": "soon", "DEFAULT_TIMEOUT": "3"})
    assert (pipeline.name, total.seconds) == ("search", 30)


def test_a_policy_that_cannot_take_new_settings_over_keeps_all_of_them_back() -> None:
    class Stubborn(Policy):
        def apply(self, settings: Settings, service: str) -> None:
            if settings.choose(service, "DEFAULT_TIMEOUT") < 2:
                raise ConfigurationError("Stubborn: no less than 2 seconds")

    first, last = Timeout(), Timeout()
    kept = [Pipeline("a", first), Pipeline("b", Stubborn()), Pipeline("c", last)]
    registry.reload({"DEFAULT_TIMEOUT": "9"})
    events: list[Event] = []
    end = subscribe(events.append)
    with pytest.raises(ConfigurationError, match="no less than 2"):
        registry.reload({"DEFAULT_TIMEOUT": "1"})
    end()
    assert (first.seconds, last.seconds, Timeout().seconds) == (9, 9, 9)
    assert [event.details["problem"] for event in events] == ["reload refused"]
    assert len(kept) == 3


async def test_the_switch_off_means_the_bare_call_at_once_and_back() -> None:
    breaker = CircuitBreaker("svc", fail_max=1)
    pipeline = Pipeline("svc", Fallback(Value("instead")), breaker)
    assert await pipeline.call(down) == "instead"
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert await pipeline.call(fine) == 1
    registry.reload({})
    assert await pipeline.call(fine) == "instead"


async def test_one_service_can_be_switched_off_alone() -> None:
    one, other = (Pipeline(name, Fallback(Value(name))) for name in ("one", "other"))
    registry.reload({"ONE_FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    with pytest.raises(ConnectionError):
        await one.call(down)
    assert await other.call(down) == "other"


async def test_a_decorated_function_follows_the_switch_too() -> None:
    @circuit_breaker(name="svc", fail_max=1)
    async def guarded() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await guarded()
    with pytest.raises(CircuitOpen):
        await guarded()
    registry.reload({"SVC_FF_ENABLE_RESILIENCE_PATTERNS": "off"})
    with pytest.raises(ConnectionError):
        await guarded()


async def test_the_state_gauge_is_true_at_every_scrape() -> None:
    breaker = CircuitBreaker("svc", fail_max=1, timeout=5)
    pipeline = Pipeline("svc", breaker)

    def states() -> dict[str, object]:
        return {
            state: number("circuit_breaker_state", "svc", state) for state in ("closed", "open", "half_open")
        }

    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert states() == {"closed": 0, "open": 1, "half_open": 0}
    await asyncio.sleep(6)
    await pipeline.call(fine)
    assert states() == {"closed": 1, "open": 0, "half_open": 0}
    assert number("circuit_breaker_transitions_total", "svc", "open") == 1


async def test_the_adrs_numbers_are_counted() -> None:
    breaker = CircuitBreaker("svc", fail_max=2)
    pipeline = Pipeline("svc", Bulkhead(1, max_queue=0), Retry(2, jitter="none"), breaker, operation="op")
    await pipeline.call(fine)
    with pytest.raises(ConnectionError):
        await pipeline.call(down)
    assert number("circuit_breaker_success_total", "svc") == 1
    assert number("circuit_breaker_failures_total", "svc", "ConnectionError") == 2
    assert number("retry_attempts_total", "svc", "1") == 2
    assert number("retry_attempts_total", "svc", "2") == 1
    assert number("retry_exhausted_total", "svc") == 1
    assert number("bulkhead_active_operations", "svc") == 0
    assert number("resilience_calls_total", "svc", "op", "failure") == 1
    assert number("resilience_calls_total", "svc", "op", "success") == 1


async def test_a_breaker_in_two_pipelines_is_counted_once() -> None:
    breaker = CircuitBreaker("shared")
    reads, writes = Pipeline("reads", Retry(), breaker), Pipeline("writes", breaker)
    await reads.call(fine)
    await writes.call(fine)
    assert number("circuit_breaker_success_total", "shared") == 2
    assert registry.breakers()["shared"] is breaker


def test_a_stack_of_decorators_is_listed_as_one_pipeline() -> None:
    @circuit_breaker(name="svc")
    @retry_with_backoff()
    async def guarded() -> None: ...

    names = [pipeline.name for pipeline in registry.pipelines() if "guarded" in pipeline.site.operation]
    assert names == ["svc"]
    assert guarded is not None


def test_every_family_is_there_before_its_first_sample() -> None:
    metrics: list[Metric] = registry.metrics()
    assert {"timeout_violations_total", "bulkhead_queue_depth"} <= {metric.name for metric in metrics}


async def test_a_pipeline_is_listed_as_long_as_what_it_made_is_kept() -> None:
    @Pipeline("inline", CircuitBreaker("inline"))
    async def guarded() -> int:
        return 1

    call = Pipeline("kept", CircuitBreaker("kept")).call
    assert await guarded() == await call(fine) == 1
    assert {"inline", "kept"} <= {pipeline.name for pipeline in registry.pipelines()}
