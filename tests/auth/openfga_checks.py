"""What the tests of permission checks have in common."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer
from mcp_server_langgraph.resilience import Pipeline
from tests.support.openfga_server import OpenFGAServer

DOCUMENT = "document:plan"


OUTAGES = ["stop", "hang", "reset", "garbage", "noise", "fail_503", "fail_500"]


@asynccontextmanager
async def authorizer_of(openfga: OpenFGAServer, **options: Any) -> AsyncIterator[OpenFGAAuthorizer]:
    pipeline = Pipeline.standard("openfga")
    authorizer = OpenFGAAuthorizer(openfga.url, openfga.store_id, openfga.model_id, pipeline, **options)
    try:
        await reach(authorizer)
        yield authorizer
    finally:
        await authorizer.aclose()


async def reach(authorizer: OpenFGAAuthorizer) -> None:
    """Only who has answered once can be out. (A busy machine may need more than one attempt.)"""
    async with asyncio.timeout(20):
        while True:
            with suppress(httpx2.TransportError, TimeoutError):
                await authorizer.verify()
                return


def break_it(openfga: OpenFGAServer, how: str) -> None:
    if how.startswith("fail_"):
        openfga.fail(
            int(how.removeprefix("fail_")), {"code": "internal_error", "message": "Internal Server Error"}
        )
    else:
        getattr(openfga, how)()


async def until_allowed_unchecked(authorizer: OpenFGAAuthorizer, users: int = 3) -> None:
    """Ask for so many users, again and again, until one is let through."""
    async with asyncio.timeout(10):
        while True:
            for number in range(users):
                decision = await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
                if decision.allowed:
                    assert decision.degraded
                    return
            await asyncio.sleep(0.02)


async def never_allowed(authorizer: OpenFGAAuthorizer, user: str, **options: Any) -> None:
    """Ask for half a second, and twenty times at least, and see it denied each time."""
    give_up = time.monotonic() + 0.5
    asked = 0
    while asked < 20 or time.monotonic() < give_up:
        assert not (await authorizer.check(user, "viewer", DOCUMENT, **options)).allowed
        asked += 1
        await asyncio.sleep(0.02)
