"""Records that wait for Redis."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from mcp_server_langgraph.auth.records import RedisRecords
from mcp_server_langgraph.resilience import Pipeline, Retry
from tests.support.ports import HOST, free_port

GIVEN_UP = "what waited longest for Redis is given up: no more than 2 records may"


@pytest.mark.real_time
async def test_what_is_given_up_is_told_and_a_deletion_is_none(caplog: pytest.LogCaptureFixture) -> None:
    nowhere = f"redis://{HOST}:{free_port()}"
    async with aclosing(RedisRecords(nowhere, Pipeline("redis", Retry(1)), max_kept=2)) as records:
        await records.write(("ann", "1"), {b"a": b"1"}, {})
        await records.delete(("ann", "2"))
        await records.write(("ann", "3"), {b"a": b"3"}, {})
        assert (records.pending, caplog.messages.count(GIVEN_UP)) == (2, 1)
        await records.write(("ann", "4"), {b"a": b"4"}, {})
        assert (records.pending, caplog.messages.count(GIVEN_UP)) == (2, 1)
        assert await records.read(("ann", "4")) == {b"a": b"4"}
