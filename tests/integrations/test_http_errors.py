"""Our errors as errors of a library, and the options that cannot be right."""

import pickle
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Outcome,
    ResilienceError,
    TimedOut,
    Timeout,
    classify,
)
from mcp_server_langgraph.resilience.integrations._http.fitting import Fitting
from mcp_server_langgraph.resilience.integrations.hosts import Hosts, is_idempotent, origin_of
from mcp_server_langgraph.resilience.integrations.httpx2 import ResilientTransport

LIBRARIES = [
    (httpx.TransportError, httpx.TimeoutException),
    (httpx2.TransportError, httpx2.TimeoutException),
    (aiohttp.ClientConnectionError, aiohttp.ServerTimeoutError),
]
ERRORS: list[tuple[ResilienceError, bool]] = [
    (CircuitOpen("search", 12.5), False),
    (BulkheadFull("search"), False),
    (DeadlineExceeded("search"), True),
    (TimedOut("search", 2.5, "idle"), True),
]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library[0].__module__)
@pytest.mark.parametrize(("ours", "of_time"), ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_ours_and_the_librarys(library: Any, ours: ResilienceError, of_time: bool) -> None:
    fitting = Fitting(*library)
    fitted = fitting.fit(ours)
    assert isinstance(fitted, type(ours))
    assert isinstance(fitted, library[of_time])
    assert isinstance(fitted, TimeoutError) >= isinstance(ours, TimeoutError)
    assert (str(fitted), fitted.args, vars(fitted)) == (str(ours), ours.args, vars(ours))
    assert classify(fitted) == classify(ours)
    assert type(fitting.fit(type(ours)(*ours.args))) is type(fitted)
    assert fitting.fit(fitted) is fitted
    there = pickle.loads(pickle.dumps(fitted))
    assert (type(there), there.args) == (type(ours), ours.args)


def test_httpx_can_tell_the_request_of_it() -> None:
    fitted: Any = Fitting(*LIBRARIES[1]).fit(CircuitOpen("search"))
    with pytest.raises(RuntimeError, match="request"):
        _ = fitted.request
    fitted.request = httpx2.Request("GET", "http://a")
    assert fitted.request.method == "GET"


def test_an_sdks_error_that_was_raised_from_ours_is_ours() -> None:
    class APIConnectionError(Exception):
        __module__ = "openai"

    error = APIConnectionError()
    assert classify(error).outcome is Outcome.FAILURE
    error.__cause__ = CircuitOpen("search", 3)
    assert classify(error) == classify(error.__cause__)
    unknown = RuntimeError()
    unknown.__cause__ = error.__cause__
    assert classify(unknown).outcome is Outcome.FAILURE


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example/v1?q=1", "https://api.example:443"),
        ("http://user:secret@api.example", "http://api.example:80"),
        ("http://api.example:8080", "http://api.example:8080"),
        ("ws://api.example", "ws://api.example:0"),
    ],
)
def test_an_origin_is_scheme_host_and_port_and_nothing_else(url: str, origin: str) -> None:
    assert origin_of(httpx2.Request("GET", url)) == origin
    assert origin_of(httpx.Request("GET", url)) == origin


@pytest.mark.parametrize(
    ("method", "key", "is_so"), [("get", "", True), ("POST", "", False), ("POST", "k", True)]
)
def test_what_is_idempotent(method: str, key: str, is_so: bool) -> None:
    headers = {"Idempotency-Key": key}
    assert is_idempotent(httpx2.Request(method, "http://a", headers=headers)) is is_so


@pytest.mark.parametrize("label", ["attempt_timeout", "idle_timeout"])
def test_times_are_above_0(label: str) -> None:
    options: dict[str, Any] = {label: 0}
    with pytest.raises(ConfigurationError, match=f"Hosts: {label}"):
        Hosts(**options)


def test_policies_that_act_in_between_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        Hosts(breaker=lambda _: Timeout(1))


def test_hosts_are_bounded() -> None:
    hosts = Hosts(max_hosts=2, breaker=lambda _: CircuitBreaker())
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200))
    with httpx2.Client(transport=ResilientTransport(transport, hosts=hosts)) as client:
        for number in range(5):
            client.get(f"http://host-{number}")
    snapshots: list[Any] = [policy.snapshot() for policy in hosts.once.policies]
    assert [each.keys for each in snapshots] == [2, 2]
