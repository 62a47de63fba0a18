"""Tasks and threads in the line before an adaptive limit: what they are told."""

from __future__ import annotations

import asyncio
from collections import deque

from mcp_server_langgraph.resilience._machines.admission_queue import End, LoopEntry, ThreadEntry


async def test_a_task_in_line_is_counted_with_its_place_and_told_why_it_gets_none() -> None:
    share: deque[None] = deque()
    loop = asyncio.get_running_loop()
    served, refused = LoopEntry(loop, 2, End(5.0, "too late"), share), LoopEntry(loop, 1, End(6.0, "late"))
    assert (served.level, served.end, served.late, served.share) == (2, 5.0, "too late", share)
    assert (served.why, refused.why, refused.share) == (None, None, None)
    assert served.wake()
    assert (await served.future, len(share)) == (True, 1)
    refused.turn_away("displaced")
    assert (await refused.future, refused.why) == (False, "displaced")
    unshared = LoopEntry(loop, 1, End(6.0, "late"))
    assert unshared.wake()
    assert await unshared.future is True


def test_a_task_whose_loop_is_closed_takes_no_place_of_its_share() -> None:
    loop = asyncio.new_event_loop()
    share: deque[None] = deque()
    entries = [LoopEntry(loop, 2, End(5.0, "late"), share), LoopEntry(loop, 2, End(5.0, "late"))]
    loop.close()
    assert [entry.wake() for entry in entries] == [False, False]
    assert not share


def test_a_thread_in_line_is_counted_with_its_place_and_told_why_it_gets_none() -> None:
    share: deque[None] = deque()
    served, refused = ThreadEntry(2, End(5.0, "too late"), share), ThreadEntry(1, End(6.0, "late"))
    assert (served.level, served.end, served.late, served.share) == (2, 5.0, "too late", share)
    assert (served.why, refused.why, refused.share) == (None, None, None)
    assert served.wake()
    assert (served.event.is_set(), len(share)) == (True, 1)
    refused.turn_away("displaced")
    assert (refused.event.is_set(), refused.why) == (True, "displaced")
    unshared = ThreadEntry(1, End(6.0, "late"))
    assert unshared.wake()
    assert unshared.event.is_set()
