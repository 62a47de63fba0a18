"""One name is one breaker, and one breaker may stand in many pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Pipeline,
    Retry,
    circuit_breaker,
    registry,
    with_bulkhead,
)
from tests.support.breaker_calls import call


def test_the_same_name_with_the_same_settings_is_the_same_breaker() -> None:
    @circuit_breaker(name="openfga", fail_max=1, timeout=60)
    def check() -> None:
        raise ConnectionError

    @circuit_breaker(name="openfga", fail_max=1, timeout=60)
    def write() -> None: ...

    with pytest.raises(ConnectionError):
        check()
    with pytest.raises(CircuitOpen):
        write()
    assert registry.breakers()["openfga"].state == "open"


@pytest.mark.parametrize(
    "other",
    [
        *({"fail_max": 4}, {"fail_max": 5, "timeout": 61}, {"fail_max": 5, "half_open_max": 2}),
        *({"fail_max": 5, "failure_rate": 0.5}, {"fail_max": 5, "window": 9}, {"fail_max": 5, "ramp": 2}),
        *({"fail_max": 5, "backoff": 1}, {"fail_max": 5, "slow_after": 2}, {"fail_max": 5, "jitter": 0}),
        *({"fail_max": 5, "success_threshold": 2}, {"fail_max": 5, "lease": 3}),
        *({"fail_max": 5, "expected_exception": OSError}, {"fail_max": 5, "listeners": [object()]}),
    ],
    ids=lambda other: ",".join(other) or "none",
)
def test_the_same_name_with_other_settings_is_an_error_that_names_both_places(other: dict[str, Any]) -> None:
    @circuit_breaker(name="openfga", fail_max=5)
    async def check() -> None: ...

    with pytest.raises(ConfigurationError, match="'openfga' is asked for with other settings") as caught:

        @circuit_breaker(name="openfga", **other)
        async def write() -> None: ...

    places = [line for line in str(caught.value).split() if __file__ in line]
    lines = [int(place.strip(",;").rpartition(":")[2]) for place in places]
    assert len(lines) == 2
    assert lines[0] < lines[1]


def test_a_mention_without_settings_joins_the_breaker_that_is_there() -> None:
    @circuit_breaker(name="openfga", fail_max=1)
    def check() -> None:
        raise ConnectionError

    @circuit_breaker(name="openfga")
    def write() -> None: ...

    with pytest.raises(ConnectionError):
        check()
    with pytest.raises(CircuitOpen):
        write()


def test_settings_belong_to_the_first_mention() -> None:
    @circuit_breaker(name="openfga")
    def check() -> None: ...

    with pytest.raises(ConfigurationError, match="'openfga' is asked for with other settings"):

        @circuit_breaker(name="openfga", fail_max=1)
        def write() -> None: ...


def test_without_a_name_it_belongs_to_its_function() -> None:
    @circuit_breaker(fail_max=1)
    @with_bulkhead(limit=5)
    def one() -> None:
        raise ConnectionError

    @circuit_breaker(fail_max=1)
    def other() -> None: ...

    with pytest.raises(ConnectionError):
        one()
    other()
    names = {name.rpartition(".")[2]: breaker.state for name, breaker in registry.breakers().items()}
    assert names == {"one": "open", "other": "closed"}


async def test_one_breaker_object_guards_its_dependency_in_many_pipelines() -> None:
    breaker = CircuitBreaker(fail_max=2)
    first, second = Pipeline("first", breaker), Pipeline("second", Retry(1), breaker)
    await call(first, ConnectionError())
    await call(second, ConnectionError())
    assert breaker.name == "first"
    assert isinstance(await call(first), CircuitOpen)
    assert isinstance(await call(second), CircuitOpen)
