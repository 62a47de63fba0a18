"""The guarded models against llmock, an emulator of the providers that is not ours: tool loops, faults, its verdict."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from mcp_server_langgraph.llm.guarded import GuardedChatModel, ModelsUnavailable
from mcp_server_langgraph.resilience import StreamInterrupted, TimedOut
from mcp_server_langgraph.resilience.integrations.langchain import GarbledAnswer, TruncatedAnswer
from tests.llm.models import ALL, NEXT, model_of, set_policies
from tests.support.llmock_server import LlmockServer

pytestmark = [pytest.mark.real_time, pytest.mark.parametrize("provider", ALL)]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(autouse=True)
def fresh(emulator: LlmockServer) -> None:
    emulator.reset()


def agent(model: GuardedChatModel) -> Any:
    bound = model.bind_tools([add])

    async def ask(state: State) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"])]}

    graph = StateGraph(State)
    graph.add_node("model", ask)
    graph.add_node("tools", ToolNode([add]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()


async def test_a_langgraph_agent_calls_tools_through_it(emulator: LlmockServer, provider: str) -> None:
    async with aclosing(model_of(emulator, provider)) as model:
        state = await agent(model).ainvoke({"messages": [HumanMessage("add 1 and 1")]})
        assert [type(message) for message in state["messages"]] == [
            HumanMessage,
            AIMessage,
            ToolMessage,
            AIMessage,
        ]
        assert state["messages"][1].tool_calls[0]["name"] == "add"
        assert state["messages"][1].response_metadata["answered_by"] == f"{provider}:model-1"


async def test_a_langgraph_agent_streams_the_tokens_of_it(emulator: LlmockServer, provider: str) -> None:
    async with aclosing(model_of(emulator, provider)) as model:
        pieces = [
            message
            async for message, _ in agent(model).astream(
                {"messages": [HumanMessage("add 1 and 1")]}, stream_mode="messages"
            )
            if isinstance(message, AIMessage)
        ]
        assert len(pieces) > 3
        assert any(piece.tool_calls or getattr(piece, "tool_call_chunks", None) for piece in pieces)


async def test_structured_output_works_through_it(emulator: LlmockServer, provider: str) -> None:
    class Sum(BaseModel):
        """A sum."""

        total: int

    async with aclosing(model_of(emulator, provider)) as model:
        answer = await model.with_structured_output(Sum).ainvoke("add 1 and 1")
    assert isinstance(answer, Sum)


async def test_another_provider_takes_over_in_the_middle_of_a_tool_loop(
    emulator: LlmockServer, provider: str
) -> None:
    async with aclosing(model_of(emulator, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        bound = model.bind_tools([add])
        asked: list[AnyMessage] = [HumanMessage("add 1 and 1")]
        call = await bound.ainvoke(asked)
        emulator.script({"type": "fail", "status": 529, "times": None, "match": {"model": "first"}})
        results = [ToolMessage("2", tool_call_id=str(each["id"]), name="add") for each in call.tool_calls]
        answer = await bound.ainvoke([*asked, call, *results])
        assert answer.response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        assert answer.text
        assert not answer.tool_calls


async def test_retry_after_is_honoured_to_the_emulators_satisfaction(
    emulator: LlmockServer, provider: str
) -> None:
    emulator.script({"type": "fail", "status": 429, "retry_after": 1})
    async with aclosing(model_of(emulator, provider)) as model:
        assert (await model.ainvoke("hello")).text
        assert len(emulator.requests()) == 2
        assert emulator.verdict()["passed"] is True


async def test_the_retries_of_a_dead_provider_are_ours_alone(emulator: LlmockServer, provider: str) -> None:
    emulator.script({"type": "fail", "status": 503, "times": None})
    async with aclosing(model_of(emulator, provider)) as model:
        with pytest.raises(ModelsUnavailable, match="overloaded"):
            await model.ainvoke("hello")
        assert len(emulator.requests()) == 3


@pytest.mark.parametrize(
    ("kind", "cause"), [("truncate", TruncatedAnswer), ("disconnect", Exception), ("stall", TimedOut)]
)
async def test_a_stream_that_breaks_in_the_middle_is_an_error_and_is_not_begun_anew(
    emulator: LlmockServer, provider: str, kind: str, cause: type[Exception]
) -> None:
    emulator.script({"type": "stream_fault", "kind": kind, "after_chunks": 5, "stall_seconds": 5})
    async with aclosing(
        model_of(emulator, f"{provider}:first", f"{NEXT[provider]}:second", idle=0.5)
    ) as model:
        with pytest.raises(StreamInterrupted) as caught:
            await _read(model)
        assert isinstance(_root(caught.value), cause)
        assert len(emulator.requests()) == 1


async def test_a_stream_with_a_piece_that_cannot_be_read_is_an_error(
    emulator: LlmockServer, provider: str
) -> None:
    emulator.script({"type": "stream_fault", "kind": "malformed", "after_chunks": 5})
    async with aclosing(model_of(emulator, provider)) as model:
        with pytest.raises(StreamInterrupted) as caught:
            await _read(model)
        assert isinstance(_root(caught.value), GarbledAnswer)


async def test_a_first_piece_that_is_late_passes_the_stream_to_the_next_model(
    emulator: LlmockServer, provider: str
) -> None:
    set_policies(LLM_STREAM_FIRST_ITEM_TIMEOUT="1")
    emulator.script({"type": "slow_first_token", "seconds": 20, "match": {"model": "first"}})
    async with aclosing(model_of(emulator, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        await model.prepare()
        assert await _read(model)
        asked = [request["model"] for request in emulator.requests()]
        assert asked == ["first", "second"]


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_another_model_answers_for_one_that_is_limited_or_overloaded(
    emulator: LlmockServer, provider: str, status: int
) -> None:
    emulator.script({"type": "fail", "status": status, "times": None, "match": {"model": "first"}})
    async with aclosing(model_of(emulator, f"{provider}:first", f"{NEXT[provider]}:second")) as model:
        assert (await model.ainvoke("hello")).response_metadata["answered_by"] == f"{NEXT[provider]}:second"
        assert len(emulator.requests()) == 2


async def _read(model: GuardedChatModel) -> str:
    async with asyncio.timeout(20), aclosing(model.astream("hello there, how are you")) as chunks:  # type: ignore[type-var]
        return "".join([str(chunk.text) async for chunk in chunks])


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None and isinstance(error, StreamInterrupted):
        error = error.__cause__
    return error
