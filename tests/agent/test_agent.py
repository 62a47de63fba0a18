"""The agent: a real tool loop with an end, a memory, and tools that fail without failing the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import BaseModel, Field

from mcp_server_langgraph.agent.conversations import ModelRefused, UnknownConversation
from mcp_server_langgraph.agent.runner import Agent
from mcp_server_langgraph.agent.tools import AgentTool, ToolFailed, standard_tools
from mcp_server_langgraph.auth.session import (
    ConversationConflict,
    InMemorySessionStore,
    LimitReached,
    SessionLimits,
)
from mcp_server_langgraph.llm.offline import OfflineChatModel
from mcp_server_langgraph.resilience import CircuitOpen, collect_degradations

Script = Callable[[list[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """Answers what the script says, and keeps what it was shown and which tools were bound."""

    script: Any
    seen: list[Any] = Field(default_factory=list)
    bound: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        self.bound.extend(tools)
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.seen.append(messages)
        answer = self.script(messages)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return ChatResult(generations=[ChatGeneration(message=answer)])


class Anything(BaseModel):
    text: str = ""


def tool(name: str, call: Callable[[str, Any], Any]) -> AgentTool:
    return AgentTool(name, f"The tool {name}.", Anything, call)


def calls(*names: str, args: dict[str, Any] | None = None) -> AIMessage:
    return AIMessage("", tool_calls=[ToolCall(name=name, args=args or {}, id=f"id-{name}") for name in names])


def results(messages: list[BaseMessage]) -> list[ToolMessage]:
    return [message for message in messages if isinstance(message, ToolMessage)]


def ask_then_tell(*names: str, args: dict[str, Any] | None = None) -> Script:
    """Call the tools once, then answer with their results."""

    def script(messages: list[BaseMessage]) -> AIMessage:
        told = results(messages)
        return (
            AIMessage(" / ".join(str(message.content) for message in told))
            if told
            else calls(*names, args=args)
        )

    return script


def an_agent(
    script: Script, *tools: AgentTool, sessions: InMemorySessionStore | None = None, rounds: int = 6
) -> Agent:
    store = InMemorySessionStore() if sessions is None else sessions
    return Agent(ScriptedModel(script=script), tools, store, model_name="scripted", max_tool_rounds=rounds)


async def echo(_owner: str, asked: Anything) -> str:
    return f"echo {asked.text}"


async def test_the_tools_are_bound_to_the_model() -> None:
    model = ScriptedModel(script=lambda _: AIMessage("hi"))
    Agent(model, standard_tools(InMemorySessionStore()), InMemorySessionStore(), model_name="x")
    assert [spec["function"]["name"] for spec in model.bound] == [
        "calculator",
        "current_time",
        "conversation_search",
        "prometheus_query",
        "prometheus_list",
    ]
    assert all(spec["function"]["parameters"]["type"] == "object" for spec in model.bound)


async def test_a_tools_result_goes_back_to_the_model_which_then_answers() -> None:
    turn = await an_agent(ask_then_tell("echo", args={"text": "tea"}), tool("echo", echo)).chat("me", "hello")
    assert turn.answer == "echo tea"
    assert [(use.name, use.ok) for use in turn.tool_calls] == [("echo", True)]


async def test_an_answer_without_tools_costs_one_call_of_the_model() -> None:
    model = ScriptedModel(script=lambda _: AIMessage("hi"))
    turn = await Agent(model, [tool("echo", echo)], InMemorySessionStore(), model_name="x").chat(
        "me", "hello"
    )
    assert turn.answer == "hi"
    assert len(model.seen) == 1


async def test_tools_of_one_round_run_side_by_side() -> None:
    async def slow(_owner: str, _asked: Anything) -> str:
        await asyncio.sleep(5)
        return "slow"

    began = asyncio.get_running_loop().time()
    agent = an_agent(ask_then_tell("one", "two"), tool("one", slow), tool("two", slow))
    assert (await agent.chat("me", "hello")).answer == "slow / slow"
    assert asyncio.get_running_loop().time() - began == pytest.approx(5)


@pytest.mark.parametrize("rounds", [1, 3, 20])
async def test_a_model_that_never_stops_asking_is_stopped_and_the_answer_says_so(rounds: int) -> None:
    asked = 0

    async def count(_owner: str, _asked: Anything) -> str:
        nonlocal asked
        asked += 1
        return "more"

    sessions = InMemorySessionStore()
    agent = an_agent(lambda _: calls("count"), tool("count", count), sessions=sessions, rounds=rounds)
    turn = await agent.chat("me", "hello")
    assert asked == rounds
    assert turn.answer == f"I stopped after {rounds} rounds of tool calls without reaching an answer."
    assert [use.ok for use in turn.tool_calls] == [True] * rounds + [False]
    kept = await sessions.get(turn.conversation_id, "me")
    assert kept is not None
    unanswered = {call["id"] for said in kept.messages for call in said.tool_calls}
    assert unanswered == {said.tool_call_id for said in kept.messages if said.role == "tool"}


async def fail_as_asked(_owner: str, _asked: Anything) -> str:
    raise ToolFailed("no tea left")


async def be_rejected(_owner: str, _asked: Anything) -> str:
    raise CircuitOpen("kettle", 3.0)


async def be_refused(_owner: str, _asked: Anything) -> str:
    raise ConnectionRefusedError(111, "connection refused")


async def be_unreachable(_owner: str, _asked: Anything) -> str:
    raise httpx2.ConnectError("all connection attempts failed")  # no OSError


async def have_a_bug(_owner: str, _asked: Anything) -> str:
    raise KeyError("secret inner detail")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (fail_as_asked, "no tea left"),
        (be_rejected, "unavailable at the moment: circuit_breaker of 'kettle' is open"),
        (be_refused, "unavailable at the moment"),
        (be_unreachable, "unavailable at the moment: all connection attempts failed"),
        (have_a_bug, "failed with an internal error"),
    ],
)
async def test_a_failing_tool_is_told_to_the_model_and_does_not_fail_the_turn(call: Any, told: str) -> None:
    turn = await an_agent(ask_then_tell("bad"), tool("bad", call)).chat("me", "hello")
    assert told in turn.answer
    assert "secret inner detail" not in turn.answer
    assert [(use.name, use.ok) for use in turn.tool_calls] == [("bad", False)]


@pytest.mark.parametrize(
    ("call", "degraded"), [(be_rejected, True), (be_refused, True), (fail_as_asked, False)]
)
async def test_an_answer_that_does_without_an_unavailable_tool_is_noted_as_degraded(
    call: Any, degraded: bool
) -> None:
    with collect_degradations() as notes:
        await an_agent(ask_then_tell("bad"), tool("bad", call)).chat("me", "hello")
    assert [note.service for note in notes] == ["bad"] * degraded


async def test_wrong_arguments_of_the_model_are_told_to_the_model() -> None:
    agent = an_agent(ask_then_tell("echo", args={"text": ["no", "text"]}), tool("echo", echo))
    assert "wrong arguments: text" in (await agent.chat("me", "hello")).answer


async def test_a_tool_that_does_not_exist_is_told_to_the_model() -> None:
    answer = (await an_agent(ask_then_tell("nope"), tool("echo", echo)).chat("me", "hello")).answer
    assert answer == "there is no tool 'nope'; there are echo"


async def test_history_goes_in_with_tool_calls_and_results() -> None:
    model = ScriptedModel(script=ask_then_tell("echo", args={"text": "tea"}))
    agent = Agent(model, [tool("echo", echo)], InMemorySessionStore(), model_name="x")
    first = await agent.chat("me", "one")
    await agent.chat("me", "two", first.conversation_id)
    shown = model.seen[-1]
    assert [type(message) for message in shown] == [
        SystemMessage,
        HumanMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
        HumanMessage,
    ]
    assert shown[2].tool_calls[0]["name"] == "echo"
    assert shown[3].tool_call_id == shown[2].tool_calls[0]["id"]


async def test_a_turn_is_kept_whole_and_in_order() -> None:
    sessions = InMemorySessionStore()
    agent = an_agent(ask_then_tell("echo", args={"text": "tea"}), tool("echo", echo), sessions=sessions)
    turn = await agent.chat("me", "hello")
    kept = await sessions.get(turn.conversation_id, "me")
    assert kept is not None
    assert kept.owner == "me"
    assert [said.role for said in kept.messages] == ["user", "assistant", "tool", "assistant"]
    assert kept.messages[2].name == "echo"
    assert kept.messages[1].tool_calls[0]["args"] == {"text": "tea"}


async def test_of_two_turns_at_once_in_one_conversation_the_later_is_told_to_try_again() -> None:
    gate = asyncio.Event()

    async def answer(messages: list[BaseMessage]) -> AIMessage:
        if messages[-1].content == "slow":
            await gate.wait()
        return AIMessage("answered")

    sessions = InMemorySessionStore()
    agent = an_agent(answer, sessions=sessions)
    begun = (await agent.chat("me", "hello")).conversation_id
    slow = asyncio.create_task(agent.chat("me", "slow", begun))
    await asyncio.sleep(1)
    await agent.chat("me", "quick", begun)
    gate.set()
    with pytest.raises(ConversationConflict, match="try again"):
        await slow
    await agent.chat("me", "slow", begun)
    kept = await sessions.get(begun, "me")
    assert kept is not None
    assert [said.content for said in kept.messages if said.role == "user"] == ["hello", "quick", "slow"]


async def test_where_nothing_more_can_be_kept_the_model_is_not_asked() -> None:
    model = ScriptedModel(script=lambda _: AIMessage("hi"))
    sessions = InMemorySessionStore(limits=SessionLimits(conversations=1, messages=3))
    agent = Agent(model, [], sessions, model_name="x")
    begun = (await agent.chat("me", "hello")).conversation_id
    for conversation_id in (begun, None):
        with pytest.raises(LimitReached):
            await agent.chat("me", "more", conversation_id)
    assert len(model.seen) == 1


async def test_a_turn_of_a_conversation_that_was_deleted_meanwhile_is_not_kept() -> None:
    sessions = InMemorySessionStore()

    async def delete(_owner: str, _asked: Anything) -> str:
        await sessions.delete(begun, "me")
        return "deleted"

    begun = (await an_agent(lambda _: AIMessage("hi"), sessions=sessions).chat("me", "hello")).conversation_id
    agent = an_agent(ask_then_tell("delete"), tool("delete", delete), sessions=sessions)
    with pytest.raises(UnknownConversation):
        await agent.chat("me", "delete it", begun)
    assert await sessions.get(begun, "me") is None


async def test_a_turn_that_fails_leaves_nothing_behind() -> None:
    def fail(_messages: list[BaseMessage]) -> AIMessage:
        raise ConnectionError("no model")

    sessions = InMemorySessionStore()
    with pytest.raises(ConnectionError):
        await an_agent(fail, sessions=sessions).chat("me", "hello")
    assert len(sessions) == 0


async def test_a_cancelled_turn_cancels_the_model_and_leaves_nothing_behind() -> None:
    cancelled = asyncio.Event()

    async def wait(_messages: list[BaseMessage]) -> AIMessage:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    sessions = InMemorySessionStore()
    call = asyncio.create_task(an_agent(wait, sessions=sessions).chat("me", "hello"))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert cancelled.is_set()
    assert len(sessions) == 0


async def test_somebody_elses_conversation_is_as_unknown_as_one_that_does_not_exist() -> None:
    model = ScriptedModel(script=lambda _: AIMessage("hi"))
    agent = Agent(model, [], InMemorySessionStore(), model_name="x")
    mine = await agent.chat("me", "hello")
    errors = []
    for owner, conversation_id in (("you", mine.conversation_id), ("you", "f" * 32)):
        with pytest.raises(UnknownConversation) as refused:
            await agent.chat(owner, "hello", conversation_id)
        errors.append(str(refused.value).replace(conversation_id, "ID"))
    assert errors[0] == errors[1]
    assert len(model.seen) == 1


async def test_the_search_tool_sees_only_the_callers_own_conversations() -> None:
    sessions = InMemorySessionStore()
    agent = Agent(OfflineChatModel(), standard_tools(sessions), sessions, model_name="offline")
    await agent.chat("me", "I like narwhals")
    assert "I like narwhals" not in (await agent.chat("you", "Search for narwhals")).answer
    assert "I like narwhals" in (await agent.chat("me", "Search for narwhals")).answer


async def test_a_refusal_of_the_provider_is_told_apart_from_an_outage() -> None:
    class Refused(Exception):
        status_code = 401

    def refuse(_messages: list[BaseMessage]) -> AIMessage:
        raise Refused("key sk-secret is wrong")

    with pytest.raises(ModelRefused, match="answered 401") as refused:
        await an_agent(refuse).chat("me", "hello")
    assert "sk-secret" not in str(refused.value)


async def test_tokens_are_added_up_and_the_answering_model_is_named() -> None:
    def script(messages: list[BaseMessage]) -> AIMessage:
        answer = AIMessage("done") if results(messages) else calls("echo")
        answer.usage_metadata = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
        answer.response_metadata = {"answered_by": "openai:gpt-x"}
        return answer

    turn = await an_agent(script, tool("echo", echo)).chat("me", "hello")
    assert turn.usage == {"input_tokens": 20, "output_tokens": 4, "total_tokens": 24}
    assert turn.model == "openai:gpt-x"
    assert turn.offline is False


async def test_progress_is_told_in_order() -> None:
    told: list[str] = []

    async def progress(message: str) -> None:
        told.append(message)

    agent = an_agent(ask_then_tell("echo"), tool("echo", echo))
    await agent.chat("me", "hello", progress=progress)
    assert told == ["asking the model", "running echo", "asking the model"]
