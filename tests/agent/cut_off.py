"""An agent whose turn can be cut off after its tools were run; as a program, to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import BaseModel
from redis.asyncio import Redis

from mcp_server_langgraph.agent.runner import Agent
from mcp_server_langgraph.agent.tool import AgentTool
from mcp_server_langgraph.auth.records import RedisRecords
from mcp_server_langgraph.auth.session import InMemorySessionStore, RedisSessionStore, SessionStore
from mcp_server_langgraph.resilience import Pipeline, registry

__all__ = ["CutOff", "answers_in_redis", "counting_agent"]


class CutOff(Exception):
    """The model went away."""


class _Model(BaseChatModel):
    """Asks for both tools when told to work, and then tells what they answered."""

    after_tools: Callable[[], Any]

    @property
    def _llm_type(self) -> str:
        return "cut off"

    def bind_tools(self, tools: Any, **_: Any) -> _Model:  # type: ignore[override]
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self._answer(messages))])

    async def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            await self.after_tools()
            answers = [str(each.text) for each in messages[-2:]]
            return AIMessage("done: " + "; ".join(answers))
        if "work" in str(messages[-1].text):
            calls = [{"name": name, "args": {}, "id": f"call-{name}"} for name in ("one", "two")]
            return AIMessage("", tool_calls=calls)
        return AIMessage("hello")


class _Nothing(BaseModel):
    pass


async def answers_in_redis(url: str, *tools: str) -> None:
    """Wait until Redis holds the answers of these tools, for a turn that is under way."""
    async with Redis.from_url(url) as redis, asyncio.timeout(30):
        missing = set(tools)
        while missing:
            await asyncio.sleep(0.02)
            kept = [value for name in await redis.keys("*:record:*") for value in await redis.hvals(name)]
            missing = {tool for tool in missing if not any(f"{tool} ran".encode() in value for value in kept)}


def counting_agent(
    records: RedisRecords,
    *,
    cuts: int = 0,
    hangs: str | None = None,
    sessions: SessionStore | None = None,
) -> tuple[Agent, list[str]]:
    """An agent with two tools, and the list of the tools that were run. The model goes away ``cuts`` times after the
    tools were run; the first run of the tool ``hangs`` never ends.
    """
    ran: list[str] = []
    left = cuts

    async def after_tools() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise CutOff

    def tool(name: str) -> AgentTool:
        async def run(_owner: str, _asked: Any) -> str:
            ran.append(name)
            if name == hangs and ran.count(name) == 1:
                await asyncio.Event().wait()
            return f"{name} ran"

        return AgentTool(name, name, _Nothing, run)

    model = _Model(after_tools=after_tools)
    store = InMemorySessionStore() if sessions is None else sessions
    tools = [tool("one"), tool("two")]
    return Agent(model, tools, store, model_name="cut off", records=records), ran


async def _main(url: str, log: Path, how: str) -> None:
    # What is tried here is what becomes of the steps, on however busy a machine.
    registry.reload({"REDIS_ATTEMPT_TIMEOUT": "10"})

    async def after_tools() -> None:
        if how == "hang":
            await answers_in_redis(url, "one", "two")
            print("hanging", flush=True)
            await asyncio.Event().wait()

    def tool(name: str) -> AgentTool:
        async def run(_owner: str, _asked: Any) -> str:
            with log.open("a") as lines:
                lines.write(f"{name}\n")
            return f"{name} ran"

        return AgentTool(name, name, _Nothing, run)

    sessions = RedisSessionStore(url, Pipeline.standard("redis"), patience=10.0)
    records = RedisRecords(url, Pipeline.standard("database"))
    tools = [tool("one"), tool("two")]
    agent = Agent(_Model(after_tools=after_tools), tools, sessions, model_name="x", records=records)
    hits = await sessions.search("me", "hello")
    begun = hits[0].conversation_id if hits else (await agent.chat("me", "hello")).conversation_id
    print(json.dumps((await agent.chat("me", "work", begun)).answer))
    await sessions.aclose()
    await records.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
