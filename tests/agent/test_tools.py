"""The agent's tools: what they say, and that failures are said clearly."""

import datetime
from typing import Any

import pytest

from mcp_server_langgraph.agent.tools import AgentTool, ToolFailed, standard_tools
from mcp_server_langgraph.auth.session import InMemorySessionStore, SessionsUnavailable, StoredMessage


def tool(name: str, sessions: Any = None) -> AgentTool:
    store = InMemorySessionStore() if sessions is None else sessions
    (found,) = [tool for tool in standard_tools(store) if tool.name == name]
    return found


async def test_the_time_is_told_in_the_wanted_zone() -> None:
    told = datetime.datetime.fromisoformat(await tool("current_time").run("me", {"timezone": "Asia/Kolkata"}))
    assert told.utcoffset() == datetime.timedelta(hours=5, minutes=30)
    assert abs(told - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)


@pytest.mark.parametrize("zone", ["Mars/Base", "../etc/passwd", "", "/etc/localtime"])
async def test_an_unknown_zone_is_a_clear_failure(zone: str) -> None:
    with pytest.raises(ToolFailed, match="unknown time zone"):
        await tool("current_time").run("me", {"timezone": zone})


async def test_a_calculation_that_fails_says_why() -> None:
    assert await tool("calculator").run("me", {"expression": "6 * 7"}) == "42"
    with pytest.raises(ToolFailed, match="division by zero"):
        await tool("calculator").run("me", {"expression": "1 / 0"})


async def test_arguments_that_are_wrong_or_not_known_are_named() -> None:
    with pytest.raises(ToolFailed, match="expression: Field required"):
        await tool("calculator").run("me", {})
    with pytest.raises(ToolFailed, match="base: Extra inputs"):
        await tool("calculator").run("me", {"expression": "1", "base": 2})
    with pytest.raises(ToolFailed, match="limit"):
        await tool("conversation_search").run("me", {"query": "x", "limit": 1000})


async def test_a_search_tells_when_who_and_what() -> None:
    sessions = InMemorySessionStore()
    await sessions.append("1", "me", [StoredMessage.new("user", "I like narwhals")])
    search = tool("conversation_search", sessions=sessions)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert await search.run("me", {"query": "narwhals"}) == f"- [{today}] user: I like narwhals"
    assert await search.run("you", {"query": "narwhals"}) == "No earlier message matches."


async def test_a_search_that_is_not_possible_now_is_a_clear_failure() -> None:
    class Down(InMemorySessionStore):
        async def search(self, owner: str, query: str, limit: int = 10) -> Any:
            raise SessionsUnavailable("sessions cannot be searched now")

    with pytest.raises(ToolFailed, match="cannot be searched now"):
        await tool("conversation_search", sessions=Down()).run("me", {"query": "x"})
