"""Every known client over a real socket: what the doctor says of its defaults is what is counted on the wire, and tamed
it asks once and ends in time.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import openfga_sdk.sync
import pytest

from mcp_server_langgraph.resilience.errors import ConfigurationError
from mcp_server_langgraph.resilience.integrations import tame
from mcp_server_langgraph.resilience.integrations.doctor import Diagnosis, examine
from tests.integrations.dead_service import DeadService, no_waiting
from tests.integrations.tame_clients import CLIENTS, KEY, REDIS, Known

ALL = pytest.mark.parametrize("known", [*CLIENTS, *REDIS], ids=lambda known: known.name)
HTTP = pytest.mark.parametrize("known", CLIENTS, ids=lambda known: known.name)
SECONDS = 0.4

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::DeprecationWarning",
    "ignore:.*ClientResponse.json:RuntimeWarning",  # google-genai reads an error's body without waiting for it
)


@pytest.fixture
def service() -> Iterator[DeadService]:
    gc.freeze()  # so that the collection below looks at this test's objects only
    with DeadService() as running:
        yield running
    with warnings.catch_warnings():  # clients that cannot be closed complain of it
        warnings.simplefilter("ignore")
        gc.collect()
    gc.unfreeze()


def only(client: Any, **options: Any) -> Diagnosis:
    (found,) = examine(client, **options).diagnoses
    return found


async def fails(known: Known, client: Any) -> BaseException:
    try:
        await known.call(client)
    except Exception as error:
        return error
    raise AssertionError("a dead service has answered")


@ALL
@pytest.mark.real_time(limit=20.0)
async def test_the_doctor_knows_attempts_and_timeout_of_the_default(known: Known) -> None:
    found = only(known.default("http://127.0.0.1:9"))
    assert found.requests == known.attempts
    assert any("hidden retries" in problem for problem in found.problems) == (known.attempts > 1)
    assert (
        math.isinf(found.seconds)
        if math.isinf(known.timeout)
        else found.seconds >= known.attempts * known.timeout
    )
    assert ("no timeout" in found.problems) == math.isinf(known.timeout)
    assert len(found.advice) == (known.attempts > 1) + (found.seconds > 60)


@HTTP
@pytest.mark.real_time(limit=20.0)
async def test_as_many_requests_are_seen_on_the_wire(
    known: Known, service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    if known.name in ("google-genai", "python-keycloak"):
        service.reset()  # they repeat after a lost connection only
    client = known.default(service.url)
    await fails(known, client)
    if known.name == "python-keycloak":  # urllib3 repeats when it cannot connect, or the answer breaks off
        assert service.count() == 2
    assert service.count() == only(client).requests


@pytest.mark.parametrize("known", REDIS, ids=lambda known: known.name)
@pytest.mark.real_time(limit=20.0)
async def test_as_many_connections_are_seen_by_a_redis_that_is_lost(
    known: Known, service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = no_waiting(monkeypatch)
    service.stop()
    client = known.default(service.url)
    assert "onnect" in str(await fails(known, client))
    assert len([wait for wait in waits if wait > 0]) == only(client).requests - 1


@HTTP
@pytest.mark.real_time(limit=20.0)
async def test_tamed_it_asks_once(known: Known, service: DeadService) -> None:
    client = known.tame(service.url, SECONDS)
    assert not only(client).problems
    await fails(known, client)
    assert service.count() == 1
    service.reset()
    client = known.tame(service.url, SECONDS)
    await fails(known, client)
    assert service.count() == 2, "nor does it after a lost connection"


@ALL
@pytest.mark.real_time(limit=20.0)
async def test_tamed_it_leaves_a_silent_service_in_time(known: Known, service: DeadService) -> None:
    service.hang()
    client = known.tame(service.url, SECONDS)
    assert only(client).seconds == SECONDS
    async with asyncio.timeout(15):  # a client that waits longer would be cut here, and fail
        await fails(known, client)
    assert service.connections == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tame.openai(3, max_retries=2, **KEY), "max_retries"),
        (lambda: tame.chat_openai(3, request_timeout=9, model="m", **KEY), "request_timeout"),
        (lambda: tame.chat_anthropic(3, max_retries=1, model="m", **KEY), "max_retries"),
        (lambda: tame.chat_google(3, max_retries=6, model="m", **KEY), "max_retries"),
        (lambda: tame.google_genai(3, http_options=_types().HttpOptions(timeout=9), **KEY), "timeout"),
        (lambda: tame.openfga(3, timeout_millisec=9), "timeout_millisec"),
        (lambda: tame.redis(3, socket_timeout=9), "socket_timeout"),
        (lambda: tame.redis(3, url="redis://h?socket_timeout=9"), "9 s, not 3 s"),
        (lambda: tame.keycloak(3, max_retries=9), "max_retries"),
        (lambda: tame.prometheus(3, retry=None), "retry"),
        (lambda: tame.botocore_config(3, retries={}), "retries"),
        (lambda: tame.openai(3, http_client=_repeating(), **KEY), "httpx2.AsyncHTTPTransport x3"),
        (lambda: tame.openfga(0.1, kind=openfga_sdk.sync.OpenFgaClient), "sync client"),
        (lambda: tame.openai(0, **KEY), "timeout must be > 0"),
        (lambda: tame.redis(math.inf), "have an end"),
        (lambda: tame.redis(3, connect_timeout=-1), "connect_timeout"),
    ],
    ids=range(16),
)
def test_what_would_overrule_it_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^tame\.") as caught:
        make()
    assert said in str(caught.value)


def _types() -> Any:
    return sys.modules["google.genai.types"]


def _repeating() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=2))


def test_connecting_has_a_time_of_its_own() -> None:
    assert tame.openai(30, **KEY).timeout.connect == 5
    assert tame.openai(30, connect_timeout=1, **KEY).timeout.connect == 1
    assert tame.openai(3, kind=openai.OpenAI, **KEY).timeout.connect == 3
    assert tame.botocore_config(30, connect_timeout=2).connect_timeout == 2
    kwargs = tame.redis(3, connect_timeout=0.5).connection_pool.connection_kwargs
    assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"], kwargs["health_check_interval"]) == (
        3,
        0.5,
        15,
    )


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keycloak", None)
    with pytest.raises(ImportError, match=r"tame\.keycloak needs .* pip install python-keycloak"):
        tame.keycloak(3)
