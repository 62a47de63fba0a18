"""The ADR's decorators: stacked, they are one pipeline in the order in which they are written."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

import pytest

from mcp_server_langgraph.resilience import (
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    TimedOut,
    Value,
    circuit_breaker,
    registry,
    retry_with_backoff,
    with_bulkhead,
    with_fallback,
    with_timeout,
)
from mcp_server_langgraph.resilience._stack import pipeline_of
from mcp_server_langgraph.resilience.pipeline import Pipeline
from mcp_server_langgraph.resilience.testing import settle
from tests.support.clock import now

P = ParamSpec("P")
T = TypeVar("T")


def one_pipeline(fn: Callable[..., Any]) -> Pipeline:
    pipeline = pipeline_of(fn)
    assert pipeline is not None
    assert registry.pipelines() == [pipeline]
    return pipeline


# ADR-0030, "Decorator-Based API": the imports, the decorators and the signature as it writes them.
ADR = """
from mcp_server_langgraph.resilience import circuit_breaker, retry_with_backoff, with_timeout, with_bulkhead

@circuit_breaker(name="openfga", fail_max=5, timeout=60)
@retry_with_backoff(max_attempts=3, exponential_base=2)
@with_timeout(seconds=5)
@with_bulkhead(limit=50)
async def check_permission(user: str, resource: str) -> bool:
    \"\"\"Check OpenFGA permission with full resilience\"\"\"
    async with httpx.AsyncClient() as client:
        response = await client.post(user, resource)
        return response.json()["allowed"]
"""


class FakeClient:
    """Stands in for ``httpx.AsyncClient``; `script` says what its posts do."""

    script: list[Any] = []  # noqa: RUF012 (replaced by each test)
    posts = 0

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def post(self, *args: str) -> Any:
        FakeClient.posts += 1
        step = self.script[min(FakeClient.posts, len(self.script)) - 1]
        if isinstance(step, Exception):
            raise step
        await asyncio.sleep(step)
        return types.SimpleNamespace(json=lambda: {"allowed": args == ("anne", "doc:1")})


@pytest.fixture
def check_permission(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Awaitable[bool]]:
    module: dict[str, Any] = {
        "__name__": "adr",
        "httpx": types.SimpleNamespace(AsyncClient=FakeClient),
    }
    exec(ADR, module)
    monkeypatch.setattr(FakeClient, "posts", 0)
    function: Callable[[str, str], Awaitable[bool]] = module["check_permission"]
    return function


async def test_the_adrs_example_works_as_written(
    check_permission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "script", [0.1])
    assert await check_permission("anne", "doc:1") is True
    assert await check_permission("bob", "doc:1") is False
    assert check_permission.__doc__ == "Check OpenFGA permission with full resilience"
    assert check_permission.__name__ == "check_permission"


def test_it_is_one_pipeline_in_the_order_written(check_permission: Any) -> None:
    pipeline = one_pipeline(check_permission)
    assert pipeline.name == "openfga"
    described = pipeline.describe()
    assert [policy["policy"] for policy in described["policies"]] == [
        *("circuit_breaker", "retry", "timeout", "bulkhead")
    ]
    assert (described["policies"][0]["fail_max"], described["policies"][0]["timeout"]) == (5, 60)
    assert (described["policies"][1]["max_attempts"], described["policies"][1]["base"]) == (3, 2)
    assert described["policies"][2]["seconds"] == 5
    assert described["policies"][3]["limit"] == 50


async def test_its_timeout_is_of_one_attempt_and_its_breaker_counts_whole_operations(
    check_permission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "script", [9])
    with pytest.raises(TimedOut) as caught:
        await check_permission("anne", "doc:1")
    assert (caught.value.clock, FakeClient.posts) == ("attempt", 3)
    assert 15 <= now() <= 15 + 1 + 2
    breaker = registry.breakers()["openfga"]
    assert breaker.snapshot().failures == {"TimedOut": 1}
    for _ in range(4):
        with pytest.raises(TimedOut):
            await check_permission("anne", "doc:1")
    with pytest.raises(CircuitOpen):
        await check_permission("anne", "doc:1")
    assert FakeClient.posts == 15


async def test_the_breakers_name_is_the_service_label_of_all_its_metrics(
    check_permission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "script", [0])
    await check_permission("anne", "doc:1")
    services = {labels[0] for metric in registry.metrics() for labels in metric.samples}
    assert services == {"openfga"}


async def test_an_operators_settings_for_the_service_reach_all_its_policies(
    check_permission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.reload(
        {
            "OPENFGA_CIRCUIT_BREAKER_FAIL_MAX": "2",
            "OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "1",
            "OPENFGA_ATTEMPT_TIMEOUT": "0.5",
            "OPENFGA_CONCURRENCY_LIMIT": "1",
        }
    )
    described = one_pipeline(check_permission).describe()["policies"]
    assert [described[0]["fail_max"], described[1]["max_attempts"], described[2]["seconds"]] == [2, 1, 0.5]
    assert described[3]["limit"] == 1
    monkeypatch.setattr(FakeClient, "script", [9])
    for _ in range(2):
        with pytest.raises(TimedOut):
            await check_permission("anne", "doc:1")
    with pytest.raises(CircuitOpen):
        await check_permission("anne", "doc:1")
    assert now() == 1.0
    registry.reload({})
    assert one_pipeline(check_permission).describe()["policies"][3]["limit"] == 50


def test_without_a_named_breaker_the_service_is_the_functions_qualified_name() -> None:
    @retry_with_backoff()
    @with_timeout(seconds=5)
    async def plain() -> None: ...

    assert one_pipeline(plain).name == plain.__qualname__
    registry.reset()

    @circuit_breaker()
    @with_bulkhead(limit=1)
    async def guarded() -> None: ...

    assert one_pipeline(guarded).name == guarded.__qualname__
    assert list(registry.breakers()) == [guarded.__qualname__]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_named_breaker_names_the_stack_wherever_it_stands(place: int) -> None:
    decorators: list[Any] = [with_bulkhead(limit=1), with_timeout(seconds=1)]
    decorators.insert(place, circuit_breaker(name="svc"))

    async def work() -> None: ...

    stacked: Any = work
    for decorate in decorators:
        stacked = decorate(stacked)
    pipeline = one_pipeline(stacked)
    assert pipeline.name == "svc"
    assert {labels[0] for metric in registry.metrics() for labels in metric.samples} == {"svc"}


def test_a_timeout_is_total_above_a_retry_and_of_one_attempt_below() -> None:
    @with_timeout(seconds=9)
    @retry_with_backoff()
    @with_timeout(seconds=5)
    async def work() -> None: ...

    pipeline = one_pipeline(work)
    assert [getattr(bound, "clock", None) for bound in pipeline.bound] == ["total", None, "attempt"]


async def test_functions_below_one_breaker_name_share_the_breaker_and_nothing_else() -> None:
    def make(limit: int) -> Callable[[], Awaitable[None]]:
        @circuit_breaker(name="shared", fail_max=2)
        @with_bulkhead(limit=limit, max_queue=0)
        async def fail() -> None:
            await asyncio.sleep(1)
            raise ConnectionError

        return fail

    one, other = make(1), make(1)
    tasks = [asyncio.create_task(one()), asyncio.create_task(other())]
    await settle()
    with pytest.raises(BulkheadFull):
        await one()
    assert {type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)} == {
        ConnectionError
    }
    with pytest.raises(CircuitOpen):
        await one()


def test_one_name_with_other_settings_is_refused_and_both_places_are_named() -> None:
    @circuit_breaker(name="one", fail_max=3)
    async def first() -> None: ...

    with pytest.raises(ConfigurationError) as caught:

        @circuit_breaker(name="one", fail_max=4)
        async def second() -> None: ...

    told = str(caught.value)
    assert "fail_max=3" in told
    assert "fail_max=4" in told
    here = __file__
    lines = [int(part.split()[0].rstrip(",;:")) for part in told.split(f"{here}:")[1:]]
    assert lines[1] - lines[0] == 5


# What stands in between


def foreign(fn: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[list[T]]]:
    """Somebody else's decorator; `functools.wraps` copies our mark onto its wrapper."""

    @functools.wraps(fn)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> list[T]:
        return [await fn(*args, **kwargs)]

    return wrapper


async def test_a_foreign_decorator_in_between_is_not_skipped() -> None:
    @circuit_breaker(name="outer")
    @foreign
    @with_timeout(seconds=5)
    async def work() -> str:
        return "done"

    assert await work() == ["done"]
    kinds = [[policy.kind for policy in pipeline.policies] for pipeline in registry.pipelines()]
    assert sorted(kinds) == [["circuit_breaker"], ["timeout"]]


async def test_a_bound_method_of_a_stack_is_guarded_once_more_and_loses_no_instance() -> None:
    class Service:
        @with_timeout(seconds=5)
        async def who(self) -> Service:
            return self

    service = Service()
    again = circuit_breaker(name="again")(service.who)
    assert await again() is service


async def test_a_stack_may_be_put_around_the_same_function_twice() -> None:
    async def work() -> str:
        return "done"

    one, other = with_timeout(seconds=1)(work), with_timeout(seconds=2)(work)
    above_one = circuit_breaker(name="one")(one)
    above_other = circuit_breaker(name="other")(one)
    assert [await fn() for fn in (one, other, above_one, above_other)] == ["done"] * 4
    assert sorted(p.name for p in registry.pipelines() if p.name in ("one", "other")) == ["one", "other"]


async def test_a_fallback_belongs_on_top() -> None:
    @with_fallback(Value("instead"))
    @circuit_breaker(name="svc")
    async def fail() -> str:
        raise ConnectionError

    assert await fail() == "instead"
    with pytest.raises(ConfigurationError, match="fallback inside retry"):
        retry_with_backoff()(fail)
    assert await fail() == "instead"
    assert one_pipeline(fail).name == "svc", "what was refused took nothing over"


# The names


def in_a_fresh_process(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_the_names_of_decorators_are_functions_though_modules_are_called_so() -> None:
    in_a_fresh_process(
        "from mcp_server_langgraph.resilience import circuit_breaker, timeout\n"
        "assert callable(circuit_breaker) and callable(timeout)\n"
        "import mcp_server_langgraph.resilience.circuit_breaker, mcp_server_langgraph.resilience.timeout\n"
        "from mcp_server_langgraph.resilience import circuit_breaker as again\n"
        "assert again is circuit_breaker is mcp_server_langgraph.resilience.circuit_breaker\n"
        "from mcp_server_langgraph.resilience.circuit_breaker import CircuitBreaker\n"
    )


def test_they_are_so_also_where_the_module_is_imported_first() -> None:
    in_a_fresh_process(
        "import mcp_server_langgraph.resilience.circuit_breaker\n"
        "import mcp_server_langgraph.resilience.timeout as timeout\n"
        "import mcp_server_langgraph.resilience as layer, importlib, types\n"
        "assert isinstance(layer.circuit_breaker, types.FunctionType)\n"
        "assert timeout is layer.timeout and isinstance(timeout, type)\n"
        "module = importlib.import_module(layer.__name__ + '.circuit_breaker')\n"
        "assert isinstance(module, types.ModuleType)\n"
        "assert module.circuit_breaker is layer.circuit_breaker\n"
    )
