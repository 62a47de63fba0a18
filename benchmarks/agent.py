"""What guarding its model costs an agent: ``python -m benchmarks.agent > benchmarks/results/agent.md``.

One run of LangChain's ``create_agent`` is two questions to a model that answers at once and one tool between them. CPU
time of the process, the best of several rounds, in turns, as other work on the machine only adds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool

from mcp_server_langgraph.resilience.integrations.langchain import GuardedModel, resilient

from ._report import table

__all__ = ["main"]

RUNS: Final = 20
ROUNDS: Final = 15


class QuickModel(BaseChatModel):
    """Calls the tool once, then answers."""

    @property
    def _llm_type(self) -> str:
        return "quick"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(each) for each in tools])

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answer = AIMessage("3")
        if not isinstance(messages[-1], ToolMessage):
            answer = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _agents() -> dict[str, Any]:
    wrapped = resilient(GuardedModel(QuickModel(), "a:m"), GuardedModel(QuickModel(), "b:m"))
    stock = [
        ModelRetryMiddleware(),
        ModelFallbackMiddleware(QuickModel()),
        ModelCallLimitMiddleware(run_limit=9),
    ]
    return {
        "bare agent": create_agent(QuickModel(), [add]),
        "model wrapped by `resilient`": create_agent(wrapped, [add]),
        "three stock middlewares": create_agent(QuickModel(), [add], middleware=stock),
    }


async def _microseconds(agent: Any) -> float:
    began = time.process_time()
    for _ in range(RUNS):
        await agent.ainvoke({"messages": [("user", "1 + 2?")]})
    return (time.process_time() - began) / RUNS * 1e6


async def _measure(agents: dict[str, Any]) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in agents}
    for _ in range(ROUNDS + 1):
        for name, agent in agents.items():
            taken[name].append(await _microseconds(agent))
    return {name: values[1:] for name, values in taken.items()}


def main(write: Callable[[str], Any] = sys.stdout.write) -> None:
    """Measure and write the table."""
    taken = asyncio.run(_measure(_agents()))
    bare = min(taken["bare agent"])
    rows = [
        [name, f"{min(values):.0f}", f"{sorted(values)[len(values) // 2]:.0f}", f"{min(values) / bare:.2f}"]
        for name, values in taken.items()
    ]
    python = ".".join(map(str, sys.version_info[:3]))
    versions = ", ".join(f"{name} {version(name)}" for name in ("langchain", "langchain-core", "langgraph"))
    write(f"# An agent's run\n\nCPython {python}, {versions}; {ROUNDS} rounds of {RUNS} runs.\n\n")
    write(table(["", "CPU us a run, min", "median", "x bare (min)"], rows) + "\n")


if __name__ == "__main__":
    main()
