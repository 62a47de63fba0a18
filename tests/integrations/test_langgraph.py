"""Nodes and tools of real LangGraph graphs behind pipelines, and agents whose model is wrapped."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from mcp_server_langgraph.resilience import (
    CircuitOpen,
    ConfigurationError,
    Pipeline,
    Retry,
    StreamInterrupted,
    TimedOut,
    collect_degradations,
    registry,
    timeout,
)
from mcp_server_langgraph.resilience.integrations.langchain import GuardedModel, resilient
from mcp_server_langgraph.resilience.integrations.langgraph import resilient_node, resilient_tool
from tests.llm.scripted import ScriptedModel, StatusError, waits


class State(TypedDict, total=False):
    said: str


def graph_of(node: Any, **options: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph.compile(**options)


class Flaky:
    """Fails with each of ``errors``, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, state: State) -> State:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"said": "fine"}


async def test_a_node_that_is_idempotent_is_retried() -> None:
    flaky = Flaky(ConnectionResetError(), ConnectionResetError())
    assert await graph_of(resilient_node("search", idempotent=True)(flaky)).ainvoke({}) == {"said": "fine"}
    assert flaky.calls == 3


async def test_a_node_is_not_retried_unless_it_says_so_and_its_service_is_known_as_down() -> None:
    flaky = Flaky(*[ConnectionResetError() for _ in range(9)])
    graph = graph_of(resilient_node("search")(flaky))
    for _ in range(5):
        with pytest.raises(ConnectionResetError):
            await graph.ainvoke({})
    with pytest.raises(CircuitOpen):
        await graph.ainvoke({})
    assert flaky.calls == 5
    assert registry.breakers()["search"].state == "open"


async def test_a_node_is_cut_after_its_time() -> None:
    @resilient_node("search", timeout=3)
    async def slow(state: State) -> State:
        await asyncio.sleep(1000)
        return {}

    with pytest.raises(TimedOut):
        await graph_of(slow).ainvoke({})
    assert asyncio.get_running_loop().time() == pytest.approx(3)


async def test_a_deadline_around_the_graph_holds_in_its_nodes() -> None:
    left: list[float | None] = []

    @resilient_node("search", timeout=30)
    async def slow(state: State) -> State:
        from mcp_server_langgraph.resilience import remaining

        left.append(remaining())
        await asyncio.sleep(1000)
        return {}

    with pytest.raises(TimeoutError):
        async with timeout(2):
            await graph_of(slow).ainvoke({})
    assert left == [pytest.approx(2)]
    assert registry.breakers()["search"].snapshot().failures == {}


def test_a_plain_node_is_retried_too_and_a_runnable_is_asynchronous() -> None:
    calls: list[int] = []

    def flaky(state: State) -> State:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionResetError
        return {"said": "fine"}

    guard = Pipeline("plain", Retry(multiplier=0.001))
    assert graph_of(resilient_node(guard)(flaky)).invoke({}) == {"said": "fine"}
    assert len(calls) == 2


async def test_a_runnable_or_a_whole_graph_may_be_a_node() -> None:
    flaky = Flaky(ConnectionResetError())
    inner = graph_of(RunnableLambda(flaky.__call__))
    assert await graph_of(resilient_node("inner", idempotent=True)(inner)).ainvoke({}) == {"said": "fine"}
    assert flaky.calls == 2


async def test_an_interrupt_is_neither_retried_nor_counted_and_can_be_resumed() -> None:
    runs: list[int] = []

    @resilient_node("approval", idempotent=True)
    async def ask(state: State) -> State:
        runs.append(1)
        return {"said": interrupt("may I?")}

    graph = graph_of(ask, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    first = await graph.ainvoke({}, config)
    assert first["__interrupt__"][0].value == "may I?"
    assert len(runs) == 1
    assert await graph.ainvoke(Command(resume="yes"), config) == {"said": "yes"}
    assert registry.breakers()["approval"].snapshot().failures == {}


async def test_a_command_for_the_parent_graph_passes() -> None:
    async def leave(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"said": "left"}, goto=END)

    inner = graph_of(leave)
    assert await graph_of(resilient_node("inner", idempotent=True)(inner)).ainvoke({}) == {"said": "left"}


@pytest.mark.filterwarnings("ignore:NodeInterrupt is deprecated")
async def test_the_old_interrupt_passes_as_well() -> None:
    flaky = Flaky(NodeInterrupt("wait"))
    graph = graph_of(resilient_node("old", idempotent=True)(flaky), checkpointer=InMemorySaver())
    await graph.ainvoke({}, {"configurable": {"thread_id": "1"}})
    assert flaky.calls == 1


def test_options_beside_a_pipeline_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'search' has its own retry and timeout"):
        resilient_node(Pipeline("search"), timeout=3)(Flaky())


def lookup(flaky: Callable[[], Any]) -> BaseTool:
    @tool
    async def customer(number: str) -> str:
        """Look a customer up."""
        flaky()
        return f"customer {number}"

    return customer


def failing(*errors: Exception) -> tuple[Callable[[], None], list[int]]:
    left, calls = list(errors), []

    def fail() -> None:
        calls.append(1)
        if left:
            raise left.pop(0)

    return fail, calls


async def test_a_tool_is_called_twice_only_where_it_is_idempotent() -> None:
    for idempotent, attempts in ((True, 2), (False, 1)):
        fail, calls = failing(ConnectionResetError())
        guarded = resilient_tool(f"crm-{idempotent}", idempotent=idempotent)(lookup(fail))
        try:
            assert await guarded.ainvoke({"number": "7"}) == "customer 7"
        except ConnectionResetError:
            assert not idempotent
        assert len(calls) == attempts


async def test_the_model_is_told_that_a_tool_is_unavailable_only_where_that_is_asked_for() -> None:
    call = {"name": "customer", "args": {"number": "7"}, "id": "1", "type": "tool_call"}
    fail, _ = failing(*[ConnectionResetError("secret") for _ in range(9)])
    told = resilient_tool("crm", tell_model=True)(lookup(fail))
    for _ in range(5):
        message = await told.ainvoke(call)
        assert message.content == "customer is unavailable at the moment (ConnectionResetError)"
        assert message.status == "error"
    message = await told.ainvoke(call)
    assert message.content.startswith(
        "customer is unavailable at the moment (CircuitOpen); it may be back in "
    )
    with pytest.raises(CircuitOpen):
        await resilient_tool("crm")(lookup(fail)).ainvoke(call)


async def test_a_bug_or_a_word_of_the_tool_itself_is_not_called_unavailability() -> None:
    fail, calls = failing(KeyError("bug"), ToolException("no such customer"))
    guarded = resilient_tool("crm", idempotent=True, tell_model=True)(lookup(fail))
    with pytest.raises(KeyError):
        await guarded.ainvoke({"number": "7"})
    assert await guarded.ainvoke({"number": "7"}) == "no such customer"
    assert len(calls) == 2
    assert registry.breakers()["crm"].snapshot().failures == {}


def test_a_plain_tool_is_guarded_and_what_is_no_tool_is_refused() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        raise ConnectionResetError

    told = resilient_tool("sums", tell_model=True)(add)
    assert told.invoke({"a": 1, "b": 2}) == "add is unavailable at the moment (ConnectionResetError)"
    assert (told.name, told.args) == (add.name, add.args)
    with pytest.raises(ConfigurationError, match="put it above @tool"):
        resilient_tool("sums")(failing)  # type: ignore[type-var]


class City(BaseModel):
    """A city."""

    name: str


SCHEMA = {"title": "City", "type": "object", "properties": {"name": {"type": "string"}}}


class ToolModel(ScriptedModel):
    """Keeps what was bound to it, in OpenAI's form."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(
            tools=[each if isinstance(each, dict) else each.name for each in tools],
            **kwargs,
        )


def pair(second: BaseChatModel, first: BaseChatModel | None = None) -> BaseChatModel:
    dead = ToolModel(StatusError(529)) if first is None else first
    return resilient(GuardedModel(dead, "a:m"), GuardedModel(second, "b:m"))


def asks_for(name: str, /, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "1"}])


async def test_an_agent_runs_its_tools_with_a_wrapped_model_that_falls_back() -> None:
    second = ToolModel(asks_for("customer", number="7"), "it is Ann")
    agent = create_agent(pair(second), [lookup(lambda: None)])
    with collect_degradations() as notes:
        end = await agent.ainvoke({"messages": [("user", "who is 7?")]})
    *_, said, answer = end["messages"]
    assert isinstance(said, ToolMessage)
    assert (said.content, answer.content) == ("customer 7", "it is Ann")
    assert answer.response_metadata["degraded"] == "a:m overloaded (529)"
    assert len(notes) == 2
    assert second._seen[0]["tools"] == ["customer"]


async def test_an_agents_structured_answer_is_asked_for_by_a_tool_where_a_model_knows_no_other_way() -> None:
    second = ToolModel(asks_for("City", name="Oslo"))
    end = await create_agent(pair(second), [], response_format=City).ainvoke(
        {"messages": [("user", "where?")]}
    )
    assert end["structured_response"] == City(name="Oslo")
    assert second._seen[0]["tool_choice"] == "any"
    explicit = create_agent(
        pair(ToolModel(asks_for("City", name="Bergen"))), [], response_format=ToolStrategy(City)
    )
    assert (await explicit.ainvoke({"messages": [("user", "?")]}))["structured_response"] == City(
        name="Bergen"
    )


async def test_a_structure_is_asked_for_by_a_tool_of_a_model_that_has_no_way_of_its_own() -> None:
    second = ToolModel(asks_for("City", name="Oslo"))
    structured = resilient(GuardedModel(second, "b:m")).with_structured_output({**SCHEMA})
    assert await structured.ainvoke("where?") == {"name": "Oslo"}
    assert set(second._seen[0]) == {"tools", "tool_choice"}, (
        "what is for traces only does not reach the model"
    )


async def test_it_is_asked_for_in_the_providers_way_where_all_models_have_one() -> None:
    able = {"structured_output": True, "max_input_tokens": 100}
    second = ToolModel('{"name": "Oslo"}', profile={**able, "max_input_tokens": 50})
    model = pair(second, ToolModel(StatusError(529), profile=able))
    assert model.profile == {"structured_output": True, "max_input_tokens": 50}
    end = await create_agent(model, [], response_format=City).ainvoke({"messages": [("user", "where?")]})
    assert end["structured_response"] == City(name="Oslo")
    assert second._seen[0]["response_format"]["type"] == "json_schema"
    explicit = create_agent(pair(ToolModel('{"name": "Bergen"}')), [], response_format=ProviderStrategy(City))
    assert (await explicit.ainvoke({"messages": [("user", "?")]}))["structured_response"] == City(
        name="Bergen"
    )


async def test_what_one_model_cannot_do_the_chain_does_not_promise() -> None:
    able, unable = ToolModel(profile={"structured_output": True}), ToolModel(profile={"tool_calling": True})
    assert pair(able, unable).profile == {}
    assert pair(able, ToolModel()).profile is None


async def test_an_outage_ends_an_agents_run_with_an_error_and_not_with_a_message() -> None:
    with pytest.raises(StatusError):
        await create_agent(pair(ToolModel(StatusError(503)))).ainvoke({"messages": [("user", "?")]})


async def test_an_agents_tokens_are_streamed_through_the_chain() -> None:
    agent = create_agent(pair(ToolModel("two words")))
    pieces = [
        chunk
        async for chunk, _ in agent.astream({"messages": [("user", "?")]}, stream_mode="messages")
        if chunk.content
    ]
    assert [piece.content for piece in pieces] == ["two ", "words "]


class StallingModel(ToolModel):
    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="one"))
        await asyncio.sleep(1000)


async def test_a_stream_that_stalls_ends_the_run_of_an_agent() -> None:
    agent = create_agent(resilient(StallingModel(), idle=5))
    with pytest.raises(StreamInterrupted):
        _ = [chunk async for chunk in agent.astream({"messages": [("user", "?")]}, stream_mode="messages")]
    assert asyncio.get_running_loop().time() == pytest.approx(5)


async def test_a_deadline_around_an_agent_holds_for_its_model() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(2):
            await create_agent(pair(ToolModel(), ToolModel(waits(100)))).ainvoke(
                {"messages": [("user", "?")]}
            )
    assert asyncio.get_running_loop().time() == 2
