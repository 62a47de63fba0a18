"""Notes of what was answered by a fallback."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mcp_server_langgraph.resilience import Degradation, collect_degradations
from mcp_server_langgraph.resilience.degradation import note_degradation


def note(source: str) -> None:
    note_degradation("redis", "ConnectionError", source)


def test_without_a_collector_a_note_goes_nowhere() -> None:
    note("memory")


def test_a_collector_hears_what_degrades_inside_it() -> None:
    note("before")
    with collect_degradations() as notes:
        note_degradation("redis", "ConnectionError", "memory", 1.5)
    note("after")
    assert notes == [Degradation("redis", "ConnectionError", "memory", 1.5)]


def test_one_around_it_hears_of_it_too_and_at_once() -> None:
    with collect_degradations() as outer:
        note("a")
        with collect_degradations() as inner:
            note("b")
            assert [each.source for each in outer] == ["a", "b"]
        note("c")
    assert [each.source for each in inner] == ["b"]
    assert [each.source for each in outer] == ["a", "b", "c"]


def test_an_error_inside_loses_nothing() -> None:
    with collect_degradations() as outer, suppress(KeyError), collect_degradations():
        note("a")
        raise KeyError
    assert [each.source for each in outer] == ["a"]


async def test_child_tasks_tell_the_collector_they_were_begun_under_and_no_other() -> None:
    async def child(source: str) -> None:
        await asyncio.sleep(1)
        note(source)

    with collect_degradations() as outer:
        with collect_degradations() as inner:
            early = asyncio.create_task(child("outlives the inner one"))
            async with asyncio.TaskGroup() as group:
                group.create_task(child("awaited"))
        later = asyncio.create_task(child("begun later"))
        await asyncio.gather(early, later)
    other = asyncio.create_task(child("begun outside"))
    with collect_degradations() as stranger:
        await other
    assert sorted(each.source for each in inner) == ["awaited", "outlives the inner one"]
    assert sorted(each.source for each in outer) == ["awaited", "begun later", "outlives the inner one"]
    assert stranger == []
