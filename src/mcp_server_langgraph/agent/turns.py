"""Runs of the graph, and how one that was cut off goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from mcp_server_langgraph.agent.checkpoints import RedisSaver, thread_of
from mcp_server_langgraph.agent.conversations import ModelRefused
from mcp_server_langgraph.agent.graph import AgentGraph, AgentState, RunContext
from mcp_server_langgraph.resilience.integrations.langchain import facts_of, reason

__all__ = ["Turns"]


class Turns:
    """Runs turns on a graph: those with a name on one that keeps their steps, until they are done."""

    def __init__(
        self, plain: AgentGraph, keeping: AgentGraph | None, saver: RedisSaver | None, *, step_limit: int
    ) -> None:
        self._plain = plain
        self._keeping = keeping
        self._saver = saver
        self._step_limit = step_limit
        self._under_way: set[str] = set()

    @asynccontextmanager
    async def run(
        self, question: BaseMessage, context: RunContext, name: tuple[str | int, ...] | None
    ) -> AsyncIterator[list[BaseMessage]]:
        """What was said in the turn, from the question on. Its steps are forgotten when the block ends well.

        ``name``: what makes the turn the same one when it is asked for again; None: it never is.
        Raises ModelRefused, and what means that the model is unavailable.
        """
        thread = thread_of(context.owner, *name) if name is not None else None
        if self._keeping is None or self._saver is None or thread is None or thread in self._under_way:
            yield await self._invoke(self._plain, _begin(question), self._config(None), context)
            return
        self._under_way.add(thread)
        try:
            config = self._config(thread)
            begun = await self._saver.aget_tuple(config)
            start = _begin(question) if begun is None else None
            yield await self._invoke(self._keeping, start, config, context)
            await self._saver.adelete_thread(thread)
        finally:
            self._under_way.discard(thread)

    def _config(self, thread: str | None) -> RunnableConfig:
        config = RunnableConfig(recursion_limit=self._step_limit)
        if thread is not None:
            config["configurable"] = {"thread_id": thread}
        return config

    async def _invoke(
        self, graph: AgentGraph, start: AgentState | None, config: RunnableConfig, context: RunContext
    ) -> list[BaseMessage]:
        try:
            end = await graph.ainvoke(start, config, context=context)
        except ContextOverflowError as error:
            raise ModelRefused("the conversation is too long for the model") from error
        except Exception as error:
            if facts_of(error).status is None:
                raise
            raise ModelRefused(f"the model's provider refused the request: {reason(error)}") from error
        messages: list[BaseMessage] = end["messages"]
        return messages


def _begin(question: BaseMessage) -> AgentState:
    return AgentState(messages=[question], rounds=0)
