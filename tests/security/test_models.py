"""Language models: what a provider, a caller or whoever reads our logs must not get."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcp_server_langgraph.agent.conversations import ModelRefused
from mcp_server_langgraph.agent.runner import Agent
from mcp_server_langgraph.auth.session import InMemorySessionStore
from mcp_server_langgraph.llm import bounded_body
from mcp_server_langgraph.llm.factory import create_chat_model
from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.llm.last_answer import asked_by
from mcp_server_langgraph.resilience import StreamInterrupted, collect_degradations, events, registry
from mcp_server_langgraph.resilience.integrations.opentelemetry import events_on_spans
from tests.llm.models import ALL, KEY, model_of, set_policies, settings_for
from tests.llm.provider_server import Answer, ProviderServer, Stream
from tests.llm.scripted import ScriptedModel, StatusError, guarded

PROMPT = "the launch code is 0000-4711"
SECOND_KEY = "sk-of-the-second-account"
MARK = "<script>steal()</script>"


@pytest.fixture(autouse=True)
def quick_retries(fresh_registry: None) -> None:
    set_policies()


@pytest.fixture
def providers() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


def everything_said(caplog: pytest.LogCaptureFixture, model: GuardedChatModel, *more: object) -> str:
    """What logs, metrics, descriptions and the arguments hold."""
    records = [json.dumps(vars(record), default=repr) for record in caplog.records]
    described = [pipeline.describe() for pipeline in registry.pipelines()]
    return " ".join(map(str, (*records, caplog.text, registry.metrics(), described, repr(model), *more)))


def agent_of(model: Any) -> Agent:
    return Agent(model, [], InMemorySessionStore(100, 3600), model_name="m")


BROKEN = [
    Answer(500),
    Answer(0),
    Answer(429),
    Answer(400),
    Answer(401),
    Answer(body=b"{"),
    Stream((), "reset"),
]


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("answer", BROKEN, ids=str)
async def test_no_failure_puts_the_question_or_the_key_into_logs_metrics_or_errors(
    providers: ProviderServer, provider: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_server_langgraph")
    caplog.set_level(logging.INFO)
    set_policies(LLM_COOLDOWN_MAX_WAIT="0")
    keys = {f"{provider}/b": SECOND_KEY}
    settings = settings_for(providers, f"{provider}/b:m", llm_api_keys=keys)
    async with aclosing(create_chat_model(settings)) as model:
        providers.always(provider, answer)
        with pytest.raises(Exception) as caught:  # noqa: PT011 (whichever it is)
            await _asked(model, streamed=isinstance(answer, Stream))
        said = everything_said(caplog, model, repr(caught.value), caught.value)
    assert "0000-4711" not in said
    assert SECOND_KEY not in said
    assert f"{provider}/b" in said


async def _asked(model: GuardedChatModel, *, streamed: bool) -> None:
    if not streamed:
        await model.ainvoke(PROMPT)
        return
    async for _ in model.astream(PROMPT):
        pass


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
async def test_spans_hold_neither_question_nor_answer_nor_key(
    providers: ProviderServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "listeners", ())
    stop = events_on_spans()
    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    providers.script(provider, Answer(500))
    async with aclosing(model_of(providers, provider)) as model:
        with tracing.get_tracer("test").start_as_current_span("call"):
            assert (await model.ainvoke(PROMPT)).text == "fine"
    stop()
    told = " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert "resilience.retry" in told
    assert "0000-4711" not in told
    assert KEY not in told


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("status", [302, 307, 308])
async def test_a_provider_that_redirects_elsewhere_hands_over_neither_key_nor_question(
    providers: ProviderServer, elsewhere: ProviderServer, provider: str, status: int
) -> None:
    target = f"{elsewhere.base_url('openai')}/chat/completions"
    providers.always(provider, Answer(status, {}, {"location": target}))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke(PROMPT)
        with pytest.raises(Exception):  # noqa: B017, PT011
            await _asked(model, streamed=True)
    assert elsewhere.count() == 0
    assert providers.count() >= 3


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
async def test_a_redirect_on_the_same_host_is_followed(providers: ProviderServer, provider: str) -> None:
    path = {
        "anthropic": "/v1/messages",
        "google": "/v1beta/models/m:generateContent",
        "openai": "/v1/chat/completions",
    }.get(provider, f"/{provider}/v1/chat/completions")
    providers.script(provider, Answer(307, {}, {"location": path}))
    async with aclosing(model_of(providers, provider)) as model:
        assert (await model.ainvoke("hello")).text == "fine"
    assert providers.count() == 2


PAGE = {"content-type": "text/html; charset=utf-8"}
BODIES = {
    "a page with 200": Answer(200, MARK.encode(), PAGE),
    "a page with 400": Answer(400, MARK.encode(), PAGE),
    "a page with 500": Answer(500, MARK.encode(), PAGE),
    "garbage with 200": Answer(200, b"\x00\xff" + MARK.encode()),
    "garbage with 400": Answer(400, b"\x00\xff" + MARK.encode()),
    "a megabyte with 400": Answer(400, (MARK * 40_000).encode()),
    "a megabyte with 500": Answer(500, (MARK * 40_000).encode()),
    "an error in JSON": Answer(400, {"error": {"message": MARK, "type": "invalid_request_error"}}),
    "an error that echoes the key": Answer(401, {"error": {"message": f"{MARK} bad key {KEY}"}}),
}


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("body", BODIES)
async def test_what_a_provider_says_in_an_error_reaches_no_caller(
    providers: ProviderServer, provider: str, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    providers.always(provider, BODIES[body])
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises((ModelsUnavailable, ModelRefused)) as caught:
            await agent_of(model).chat("ann", PROMPT)
        said = everything_said(caplog, model, caught.value, caught.value.args)
    assert "steal" not in said
    assert KEY not in said
    assert len(str(caught.value)) < 300


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
async def test_an_error_in_the_middle_of_a_stream_ends_it_without_its_words(
    providers: ProviderServer, provider: str
) -> None:
    providers.always(provider, Stream(("one ",), end="reset"))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(StreamInterrupted) as caught:
            _ = [chunk async for chunk in model.astream(PROMPT)]
    assert "0000-4711" not in f"{caught.value} {caught.value!r}"


async def test_nobody_is_given_the_earlier_answer_to_the_same_question_of_another() -> None:
    model = guarded(a=ScriptedModel("for ann", StatusError(529)))
    with asked_by("ann"):
        await model.ainvoke("what is it?")
    for other in ("bob", "", "ann "):
        with asked_by(other), pytest.raises(ModelsUnavailable):
            await model.ainvoke("what is it?")
    with asked_by("ann"):
        assert (await model.ainvoke("what is it?")).content == "for ann"


async def test_nobody_is_given_the_earlier_stream_of_another() -> None:
    model = guarded(a=ScriptedModel("for ann", StatusError(529)))
    with asked_by("ann"):
        stream = model.astream("what is it?")
        first = await anext(stream)
    rest = [chunk async for chunk in stream]
    assert first.text + "".join(str(chunk.text) for chunk in rest) == "for ann "
    for other in ("bob", ""):
        with asked_by(other), pytest.raises(ModelsUnavailable):
            _ = [chunk async for chunk in model.astream("what is it?")]
    with asked_by("ann"):
        assert [str(chunk.text) async for chunk in model.astream("what is it?")] == ["for ann "]


async def test_the_agent_asks_in_its_callers_name() -> None:
    agent = agent_of(guarded(a=ScriptedModel("for ann", StatusError(529))))
    await agent.chat("ann", "what is it?")
    with pytest.raises(ModelsUnavailable):
        await agent.chat("bob", "what is it?")
    with collect_degradations() as notes:
        assert (await agent.chat("ann", "what is it?")).answer == "for ann"
    assert [note.source for note in notes] == ["earlier answer"]


async def test_who_asks_at_the_same_time_does_not_get_the_others_name() -> None:
    agent = agent_of(guarded(a=ScriptedModel("one", "two", StatusError(529))))
    first, second = await asyncio.gather(agent.chat("ann", "what?"), agent.chat("bob", "what?"))
    again = await asyncio.gather(agent.chat("bob", "what?"), agent.chat("ann", "what?"))
    assert [turn.answer for turn in again] == [second.answer, first.answer]


async def test_a_caller_who_floods_the_memory_of_answers_gets_none_of_anothers() -> None:
    model = guarded(a=ScriptedModel(*["fine"] * 300, StatusError(529)))
    with asked_by("ann"):
        await model.ainvoke("secret question")
    with asked_by("bob"):
        for number in range(299):
            await model.ainvoke(f"question {number}")
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke("secret question")


async def test_an_answer_that_called_tools_is_not_played_again_for_anybody() -> None:
    call = AIMessage("paying", tool_calls=[{"name": "pay", "args": {}, "id": "1"}])
    model = guarded(a=ScriptedModel(call, StatusError(529)))
    with asked_by("ann"):
        await model.ainvoke("pay")
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke("pay")


@pytest.mark.real_time
@pytest.mark.parametrize("provider", ALL)
@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_without_end_does_not_fill_the_memory(
    providers: ProviderServer, provider: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_body.BoundedBody.__init__, "__defaults__", (100_000,))
    providers.always(provider, Answer(status, b" " * 200_000))
    async with aclosing(model_of(providers, provider)) as model:
        with pytest.raises(ModelsUnavailable):
            await model.ainvoke("hello")
