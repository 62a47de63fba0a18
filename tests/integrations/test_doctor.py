"""Where the doctor looks, what it says where it cannot, and its command."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import redis
import requests
import tenacity
import urllib3
from redis.asyncio.multidb.client import MultiDBClient
from redis.asyncio.multidb.config import DatabaseConfig, MultiDbConfig

from mcp_server_langgraph.resilience import Pipeline, Retry, Timeout
from mcp_server_langgraph.resilience.errors import ConfigurationError
from mcp_server_langgraph.resilience.integrations.doctor import Report, examine, main

CLIENT = openai.AsyncOpenAI(api_key="none")
TAMED = openai.AsyncOpenAI(api_key="none", max_retries=0, timeout=3)


class Holder:
    """Holds ``client`` in a slot, beside itself."""

    __slots__ = ("client", "itself", "unset")

    def __init__(self, client: Any) -> None:
        self.client = client
        self.itself = self


class Guarded:
    """Calls its client through its pipeline."""

    def __init__(self) -> None:
        self._pipeline = Pipeline("llm", Timeout(20), Retry(2))
        self._client = CLIENT


class Decorated:
    """One method is decorated, and what it uses is called through that only."""

    def __init__(self) -> None:
        self.client = TAMED

    @tenacity.retry(stop=tenacity.stop_after_attempt(5))
    async def ask(self) -> object:
        return await self.client.models.list()


class Angry:
    """Nothing of it can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no")


async def uses_a_global() -> object:
    return await CLIENT.models.list()


def paths(report: Report) -> list[tuple[str, ...]]:
    return [found.path for found in report.diagnoses]


@pytest.mark.parametrize(
    "hold",
    [
        lambda it: it,
        lambda it: [{"deep": (it,)}],
        Holder,
        lambda it: SimpleNamespace(client=it).__dict__,
        lambda it: functools.partial(print, it),
        lambda it: lambda: it,
        lambda it: functools.cache(lambda: it),
        lambda it: Holder(Holder(it)).client,
        lambda it: uses_a_global,
    ],
    ids=range(9),
)
def test_a_client_is_found_wherever_it_is_held(hold: Callable[[Any], Any]) -> None:
    assert paths(examine(hold(CLIENT))) == [("openai.AsyncOpenAI x3",)]


def test_what_stands_beside_a_pipeline_is_called_through_it() -> None:
    (found,) = examine(Guarded()).diagnoses
    assert (found.path, found.requests, found.seconds) == (
        ("pipeline 'llm' x2", "openai.AsyncOpenAI x3"),
        6,
        20,
    )


def test_of_several_pipelines_beside_a_client_the_most_requests_and_the_tightest_time_count() -> None:
    held = Guarded()
    vars(held)["_other"] = Pipeline("other", Timeout(30), Retry(3))
    (found,) = examine(held).diagnoses
    assert (found.path[0], found.requests, found.seconds) == ("pipeline 'llm' or 'other' x3", 9, 20)


def test_pipelines_that_lead_back_to_where_they_are_held_end() -> None:
    first, second = Guarded(), Guarded()
    vars(first)["other"], vars(second)["other"] = second, first
    assert len(examine(first).diagnoses) == 2


def test_what_a_decorated_method_uses_is_called_through_its_decorator() -> None:
    assert paths(examine(Decorated())) == [("tenacity x5", "openai.AsyncOpenAI")]


def test_objects_that_refer_to_each_other_end() -> None:
    first, second = Holder(None), Holder(CLIENT)
    first.client, second.itself = second, first
    assert len(examine(first, second).diagnoses) == 1


def test_what_cannot_be_looked_at_is_told() -> None:
    report = examine([Angry(), CLIENT], Angry())
    assert len(report.diagnoses) == 1
    assert report.unseen == ("tests.integrations.test_doctor.Angry: RuntimeError",)
    assert "not seen: tests.integrations.test_doctor.Angry: RuntimeError" in str(report)
    assert not report.healthy


def test_a_limit_that_was_reached_is_told() -> None:
    huge = [[number] for number in range(2000)]
    assert examine(huge, most=10_000).healthy
    report = examine([*huge, CLIENT], huge, most=1000)
    assert any("too many objects" in each for each in report.unseen)
    assert not report.healthy


@pytest.mark.parametrize("wrong", [{"patient": 0}, {"patient": math.nan}, {"most": 0}], ids=range(3))
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="doctor: "):
        examine(CLIENT, **wrong)


def test_how_long_a_call_may_take_is_the_callers_to_say() -> None:
    client = redis.Redis()
    assert len(examine(client, patient=10).diagnoses[0].problems) == 2
    assert len(examine(client, patient=math.inf).diagnoses[0].problems) == 1


def test_clients_of_http_are_known_too() -> None:
    found = examine(requests.Session(), urllib3.PoolManager(retries=False, timeout=3)).diagnoses
    assert [(each.path, each.problems) for each in found] == [
        (("requests.Session",), ("no timeout",)),
        (("urllib3.PoolManager",), ()),
    ]


def test_the_report_reads_well() -> None:
    assert str(examine(CLIENT, TAMED)).splitlines() == [
        "openai.AsyncOpenAI x3",
        "    3 requests, 1802 s",
        "    ! hidden retries, which know no budget, no deadline and no breaker",
        "    ! takes more than 60 s",
        "    -> set max_retries=0 of openai.AsyncOpenAI",
        "    -> set timeout=seconds of openai.AsyncOpenAI",
        "openai.AsyncOpenAI",
        "    1 request, 3 s",
        "2 ways to clients found, 1 with problems",
    ]


def test_the_command_tells_and_its_exit_code_says_whether_something_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "app", SimpleNamespace(client=CLIENT, tamed=TAMED))
    assert main(["app:tamed"]) == 0
    assert main(["app:client", "app:tamed"]) == 1
    assert "hidden retries" in capsys.readouterr().out
    assert main(["--patient", "2", "app:tamed"]) == 1
    for missing in ("app", "app:other", "nowhere:x"):
        assert main([missing]) == 2
        assert capsys.readouterr().err.startswith("doctor: ")


def test_redis_client_of_several_databases_repeats_what_their_clients_do_once() -> None:
    config = MultiDbConfig(databases_config=[DatabaseConfig(from_url="redis://127.0.0.1:1", weight=1.0)])
    with pytest.warns(UserWarning, match="experimental"):
        client = MultiDBClient(config)
    (found,) = examine(client).diagnoses
    assert (found.path, found.requests) == (("redis.MultiDBClient x11", "redis.Redis"), 11)
    assert found.problems[0].startswith("hidden retries")
    assert "command_retry=Retry(NoBackoff(), 0)" in found.advice[0]


class Router(SimpleNamespace):
    """litellm's: it cannot be installed beside the SDKs of today (it holds openai at 2)."""


Router.__module__ = "litellm.router"


def test_routers_of_litellm_retry_and_wait_for_hours() -> None:
    (found,) = examine(Router(num_retries=2, timeout=6000)).diagnoses
    assert (found.path, found.requests) == (("litellm.Router x3",), 3)
    assert found.seconds > 3 * 6000
    assert len(found.problems) == 2
    assert examine(Router(num_retries=0, timeout=5)).healthy


class Provider:
    def __init__(self, client: object) -> None:
        self._client = client


def test_a_client_is_found_inside_what_holds_it() -> None:
    """As pydantic-ai's models and any-llm's providers hold theirs."""
    (found,) = examine(Provider(Provider(openai.AsyncOpenAI(api_key="none")))).diagnoses
    assert (found.path, found.requests) == (("openai.AsyncOpenAI x3",), 3)
