"""The agent as a LangGraph graph: the model asks for tools, the tools answer, until the model answers.

start -> model -> end
           |  ^
           v  |
          tool ...       one for each call; after ``max_rounds`` rounds: model -> give_up -> end

With a checkpointer each step is kept, and of a step each tool's answer as soon as it is there: a turn that was cut off
goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolCall, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from mcp_server_langgraph.agent.tool import AgentTool, ToolFailed
from mcp_server_langgraph.llm.last_answer import asked_by
from mcp_server_langgraph.resilience import classify
from mcp_server_langgraph.resilience.degradation import note_degradation
from mcp_server_langgraph.resilience.errors import ResilienceError

__all__ = ["AgentGraph", "AgentState", "RunContext", "build_graph"]

logger = logging.getLogger(__name__)

SYSTEM_PROMPT = (
    "You are a helpful assistant. Use the tools when they give a better answer than memory: the calculator for "
    "arithmetic, the current time, the user's earlier conversations, and metrics. Say so when a tool fails."
)

Progress = Callable[[str], Awaitable[None]]


def _later(one: int, other: int) -> int:
    return max(one, other)


class AgentState(TypedDict):
    """``messages`` begins with the question; ``rounds`` counts the rounds of tool calls."""

    messages: Annotated[list[BaseMessage], add_messages]
    rounds: Annotated[int, _later]


class ToolTask(TypedDict):
    """A tool call to be made, and the round that it belongs to."""

    call: ToolCall
    rounds: int


@dataclass(frozen=True, slots=True)
class RunContext:
    """Who is asking, after what, and where progress is told. ``limited``: what is withheld from the caller, and why."""

    owner: str
    progress: Progress
    limited: str | None = None
    history: Sequence[BaseMessage] = ()


AgentGraph = CompiledStateGraph[AgentState, RunContext, AgentState, AgentState]


def build_graph(
    model: BaseChatModel,
    tools: Sequence[AgentTool],
    max_rounds: int,
    checkpointer: BaseCheckpointSaver[str] | None = None,
) -> AgentGraph:
    """The compiled graph. The tools are bound to the model once, here."""
    by_name = {tool.name: tool for tool in tools}
    bound = model.bind_tools([tool.spec() for tool in tools]) if tools else model

    async def ask_model(state: AgentState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context = runtime.context
        await context.progress("asking the model")
        shown = [SystemMessage(SYSTEM_PROMPT), *context.history, *state["messages"]]
        with asked_by(context.owner):
            answer = await bound.ainvoke(shown)
        if names := [call["name"] for call in _calls({**state, "messages": [answer]})]:
            await context.progress("running " + ", ".join(names))
        return {"messages": [answer]}

    async def run_tool(state: ToolTask, runtime: Runtime[RunContext]) -> dict[str, Any]:
        result = await _run_tool(by_name, state["call"], runtime.context)
        return {"messages": [result], "rounds": state["rounds"] + 1}

    def give_up(state: AgentState) -> dict[str, Any]:
        unasked = [
            _result(call, "not run: too many rounds of tool calls", ok=False) for call in _calls(state)
        ]
        answer = f"I stopped after {max_rounds} rounds of tool calls without reaching an answer."
        return {"messages": [*unasked, AIMessage(answer)]}

    def after_model(state: AgentState) -> list[Send] | Literal["give_up", "__end__"]:
        calls = _calls(state)
        if not calls:
            return "__end__"
        if state["rounds"] >= max_rounds:
            return "give_up"
        return [Send("tool", ToolTask(call=call, rounds=state["rounds"])) for call in calls]

    graph = StateGraph(AgentState, context_schema=RunContext)
    graph.add_node("model", ask_model)
    graph.add_node("tool", run_tool)
    graph.add_node("give_up", give_up)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", after_model, ["tool", "give_up", END])
    graph.add_edge("tool", "model")
    graph.add_edge("give_up", END)
    return graph.compile(checkpointer=checkpointer)


def _calls(state: AgentState) -> list[ToolCall]:
    last = state["messages"][-1]
    return list(last.tool_calls) if isinstance(last, AIMessage) else []


async def _run_tool(tools: Mapping[str, AgentTool], call: ToolCall, context: RunContext) -> ToolMessage:
    tool = tools.get(call["name"])
    if tool is None:
        return _result(
            call, f"there is no tool {call['name']!r}; there are {', '.join(sorted(tools))}", ok=False
        )
    if context.limited is not None and not tool.own:
        return _result(call, context.limited, ok=False)
    try:
        return _result(call, await tool.run(context.owner, dict(call["args"])), ok=True)
    except ToolFailed as error:
        return _result(call, str(error), ok=False)
    except Exception as error:
        return _failed(call, error)


def _failed(call: ToolCall, error: Exception) -> ToolMessage:
    """What the model is told of a tool that raised; what lies behind it goes to the log alone."""
    name, kind = call["name"], type(error).__name__
    if not isinstance(error, ResilienceError | OSError) and not classify(error).unavailable:
        logger.error("tool failed", extra={"fields": {"tool": name}}, exc_info=error)
        return _result(call, "failed with an internal error", ok=False)
    logger.warning("tool unavailable", extra={"fields": {"tool": name, "error_type": kind}})
    note_degradation(name, kind, "nothing: the answer does without")
    return _result(call, f"unavailable at the moment: {error}", ok=False)


def _result(call: ToolCall, text: str, *, ok: bool) -> ToolMessage:
    return ToolMessage(
        text, name=call["name"], tool_call_id=call["id"] or "", status="success" if ok else "error"
    )
