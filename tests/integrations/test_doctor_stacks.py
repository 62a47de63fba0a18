"""Layers over clients that retry: the doctor's product is what is counted on the wire, and it says what to set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
import stamina
import tenacity
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import StateGraph
from langgraph.types import RetryPolicy

from mcp_server_langgraph.resilience import Pipeline, Retry, Timeout
from mcp_server_langgraph.resilience.integrations.doctor import Diagnosis, examine
from tests.integrations.dead_service import DeadService, no_waiting

QUESTION: Any = {"messages": [("user", "?")]}


@pytest.fixture
def service() -> Iterator[DeadService]:
    with DeadService() as running:
        yield running


def model(service: DeadService, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="m", api_key="none", base_url=service.url, **options)


def agent(service: DeadService, *middleware: Any) -> Any:
    return create_agent(model(service), tools=[], middleware=middleware)


def graph(node: Any, policy: RetryPolicy | None = None) -> Any:
    builder: Any = StateGraph(dict)
    builder.add_node("agent", node, retry_policy=policy)
    builder.set_entry_point("agent")
    return builder.compile()


def asking(chat: ChatOpenAI) -> Any:
    async def ask(state: dict[str, Any]) -> dict[str, Any]:
        return {"answer": await chat.ainvoke("?")}

    return ask


async def sent(service: DeadService, runnable: Any, question: Any) -> int:
    before = service.count()
    with pytest.raises(openai.InternalServerError):
        await runnable.ainvoke(question)
    return service.count() - before


def only(thing: Any, **options: Any) -> Diagnosis:
    (found,) = examine(thing, **options).diagnoses
    return found


@pytest.mark.real_time(limit=60.0)
async def test_the_27_requests_of_policy_middleware_and_client_are_found(
    service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    stack = graph(agent(service, ModelRetryMiddleware(on_failure="error")), RetryPolicy())
    found = only(stack)
    assert found.requests == 27 == await sent(service, stack, QUESTION)
    assert found.problems[0] == "stacked retries: 3 x 3 x 3"
    assert found.advice[0] == (
        "let one layer retry (ModelRetryMiddleware): leave out the RetryPolicy of node 'agent'; "
        "set max_retries=0 of langchain_openai.ChatOpenAI"
    )
    assert found.problems[1] == "no timeout"
    assert found.problems[2].startswith("RetryPolicy: its default retry_on")
    assert str(found).splitlines()[1] == "    27 requests, no end"


@pytest.mark.real_time(limit=60.0)
async def test_nine_of_each_layer_over_a_client(
    service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    retrying = model(service).with_retry()
    assert only(retrying).requests == 9 == await sent(service, retrying, "?")
    policy = graph(asking(model(service)), RetryPolicy())
    assert only(policy).requests == 9 == await sent(service, policy, {})
    error = agent(service, ModelRetryMiddleware(on_failure="error"))
    assert only(error).requests == 9 == await sent(service, error, QUESTION)


@pytest.mark.real_time(limit=60.0)
async def test_an_outage_that_becomes_an_answer_is_told(
    service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    silent = agent(service, ModelRetryMiddleware())
    assert any("makes an outage a successful answer" in problem for problem in only(silent).problems)
    answer = await silent.ainvoke(QUESTION)
    assert service.count() == 9
    assert "failed" in str(answer["messages"][-1].content)


@pytest.mark.real_time(limit=60.0)
async def test_fallbacks_multiply_but_are_no_retries(
    service: DeadService, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)
    stack = agent(service, ModelRetryMiddleware(on_failure="error"), ModelFallbackMiddleware(model(service)))
    found = examine(stack).diagnoses
    assert {each.requests for each in found} == {18} == {await sent(service, stack, QUESTION)}
    assert found[0].path[1:3] == ("ModelRetryMiddleware x3", "ModelFallbackMiddleware x2")
    assert {each.problems[0] for each in found} == {"stacked retries: 3 x 3"}
    tame = model(service, max_retries=0, timeout=3)
    for each in examine(tame.with_fallbacks([model(service, max_retries=0, timeout=3)])).diagnoses:
        assert (each.requests, each.problems) == (2, ())


@pytest.mark.real_time(limit=60.0)
async def test_a_tool_is_inside_its_middleware_and_not_inside_the_model_s(service: DeadService) -> None:
    client = openai.AsyncOpenAI(api_key="none", base_url=service.url)

    @tool
    @tenacity.retry(stop=tenacity.stop_after_attempt(4))
    async def models() -> str:
        """Which models there are."""
        return str(await client.models.list())

    middleware = [ToolRetryMiddleware(on_failure="error"), ModelRetryMiddleware(on_failure="error")]
    stack = create_agent(model(service, max_retries=0, timeout=3), tools=[models], middleware=middleware)
    tools, asked = examine(stack).diagnoses
    assert tools.path == ("node 'tools'", "ToolRetryMiddleware x3", "tenacity x4", "openai.AsyncOpenAI x3")
    assert tools.requests == 36
    assert asked.path == ("node 'model'", "ModelRetryMiddleware x3", "langchain_openai.ChatOpenAI")


def test_a_pipeline_s_total_timeout_bounds_what_is_inside() -> None:
    client = openai.AsyncOpenAI(api_key="none")
    pipeline = Pipeline("llm", Timeout(20), Retry(3))

    @pipeline
    async def ask() -> object:
        return await client.models.list()

    for found in (only(ask), only(client, through=[pipeline])):
        assert (found.path[0], found.requests, found.seconds) == ("pipeline 'llm' x3", 9, 20)
        assert found.advice == (
            "let one layer retry (pipeline 'llm'): set max_retries=0 of openai.AsyncOpenAI",
        )
    tamed = openai.AsyncOpenAI(api_key="none", max_retries=0, timeout=3)
    assert only(tamed, through=[pipeline]).problems == ()


def test_decorators_of_tenacity_and_stamina_are_seen_with_their_waits() -> None:
    client = openai.AsyncOpenAI(api_key="none", max_retries=0, timeout=1)

    @tenacity.retry(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_exponential(min=0, max=3))
    async def counted() -> object:
        return await client.models.list()

    @stamina.retry(on=Exception, attempts=4, timeout=None, wait_max=2)
    async def capped() -> object:
        return await client.models.list()

    @tenacity.retry(stop=tenacity.stop_after_delay(30), wait=tenacity.wait_fixed(2))
    async def timed() -> object:
        return await client.models.list()

    @tenacity.retry
    async def endless() -> object:
        return await client.models.list()

    seconds = [only(each).seconds for each in (counted, capped, timed, endless)]
    assert seconds == [4 + 1 + 2 + 3, 4 + 3 * 2, 30 + 1 + 2, math.inf]
    assert [only(each).requests for each in (counted, capped, timed, endless)] == [4, 4, 2, 2]


def test_the_timeout_of_a_node_bounds_each_of_its_attempts() -> None:
    client = openai.AsyncOpenAI(api_key="none")

    async def ask(state: dict[str, Any]) -> dict[str, Any]:
        return {"models": await client.models.list()}

    builder: Any = StateGraph(dict)
    builder.add_node("ask", ask, retry_policy=RetryPolicy(max_attempts=2, jitter=False), timeout=10)
    builder.set_entry_point("ask")
    assert only(builder.compile()).seconds == 2 * 10 + 0.5


def test_what_a_client_knows_nothing_of_is_seen_below_it() -> None:
    repeating = httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=1))
    found = only(openai.AsyncOpenAI(api_key="none", http_client=repeating))
    assert found.path == ("openai.AsyncOpenAI x3", "httpx2.AsyncHTTPTransport x2")
    assert (found.requests, found.problems[0]) == (6, "stacked retries: 3 x 2")


def test_what_httpx_connects_anew_is_counted_once() -> None:
    found = only(httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(retries=2)))
    assert (found.path, found.requests) == (("httpx2.AsyncClient x3",), 3)


def test_of_a_pipeline_and_a_decorator_inside_it_the_pipeline_is_to_retry() -> None:
    client = openai.AsyncOpenAI(api_key="none", max_retries=0, timeout=1)

    @Pipeline("llm", Timeout(20), Retry(3))
    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    async def ask() -> object:
        return await client.models.list()

    assert only(ask).advice == ("let one layer retry (pipeline 'llm'): leave out tenacity's decorator",)


def test_the_waits_of_middleware_count(service: DeadService) -> None:
    chat = model(service, max_retries=0, timeout=1)
    middleware = ModelRetryMiddleware(max_retries=3, initial_delay=1, max_delay=3, on_failure="error")
    stack = create_agent(chat, tools=[], middleware=[middleware])
    assert only(stack).seconds == 4 * 1 + 1.25 * (1 + 2 + 3)
