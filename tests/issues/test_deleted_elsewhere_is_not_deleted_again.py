"""A conversation deleted through one server was "deleted" once more by another that still held a copy of it.

Found by tests/auth/test_session_model.py: `delete` said True and `delete_all` counted it.
"""

from pathlib import Path

import pytest

from tests.auth.redis_sessions import opened, said
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.real_time


async def test_a_copy_held_here_is_no_conversation(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "data", "valkey") as server:
        async with opened(server.url) as here, opened(server.url) as there:
            for name in ("c", "d"):
                await here.append(name, "ann", said("hello"))
            assert await there.delete_all("ann") == 2
            assert not await here.delete("c", "ann")
            assert await here.delete_all("ann") == 0
