"""What the attempts to be let in by OpenFGA's absence have in common."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer, RequestRejected
from mcp_server_langgraph.resilience import Pipeline, ResilienceError, Throttle
from tests.auth.openfga_checks import DOCUMENT, reach
from tests.support.openfga_server import OpenFGAServer

__all__ = ["MALFORMED", "asked", "gullible", "never_lets_in"]

MALFORMED: dict[str, tuple[str, str, str]] = {
    "nobody": ("", "viewer", DOCUMENT),
    "no id": ("user:", "viewer", DOCUMENT),
    "everybody": ("user:*", "viewer", DOCUMENT),
    "everybody of no type": ("*", "viewer", DOCUMENT),
    "a group's members": ("group:x#member", "viewer", DOCUMENT),
    "a user's members": ("user:mallory#member", "viewer", DOCUMENT),
    "two ids": ("user:mallory:ann", "viewer", DOCUMENT),
    "a new line": ("user:mallory\nuser:ann", "viewer", DOCUMENT),
    "a header": ("user:mallory\r\nAuthorization: x", "viewer", DOCUMENT),
    "a null": ("user:mal\x00lory", "viewer", DOCUMENT),
    "a blank": ("user:mallory ann", "viewer", DOCUMENT),
    "a thin blank": ("user:mallory\u2009ann", "viewer", DOCUMENT),
    "half a character": ("user:\ud800", "viewer", DOCUMENT),
    "a very long user": ("user:" + "m" * 100_000, "viewer", DOCUMENT),
    "a user one letter too long": ("user:" + "m" * 508, "viewer", DOCUMENT),
    "a very long object": ("user:mallory", "viewer", "document:" + "d" * 100_000),
    "a very long relation": ("user:mallory", "v" * 51, DOCUMENT),
    "a relation with a new line": ("user:mallory", "viewer\n", DOCUMENT),
    "a relation of another type": ("user:mallory", "group#member", DOCUMENT),
    "a relation that is not there": ("user:mallory", "destroyer", DOCUMENT),
    "a type that is not there": ("user:mallory", "viewer", "folder:1"),
    "a user of a type that is not there": ("robot:mallory", "viewer", DOCUMENT),
    "all objects": ("user:mallory", "viewer", "document:*"),
    "an object with a relation": ("user:mallory", "viewer", f"{DOCUMENT}#viewer"),
    "an object of no type": ("user:mallory", "viewer", "plan"),
    "json": ('user:mallory","relation":"viewer"', "viewer", DOCUMENT),
}


@asynccontextmanager
async def gullible(openfga: OpenFGAServer, **options: Any) -> AsyncIterator[OpenFGAAuthorizer]:
    """The authorizer as the server has it, but one user's failures are enough: the easiest one to deceive."""
    pipeline = Pipeline.standard("openfga", throttle=Throttle())
    options = {"principals_needed": 1, **options}
    authorizer = OpenFGAAuthorizer(openfga.url, openfga.store_id, openfga.model_id, pipeline, **options)
    try:
        await reach(authorizer)
        yield authorizer
    finally:
        await authorizer.aclose()


async def asked(
    authorizer: OpenFGAAuthorizer,
    user: str = "user:mallory",
    relation: str = "viewer",
    target: str = DOCUMENT,
) -> bool:
    """Whether the user is let in. An error lets nobody in."""
    try:
        return (await authorizer.check(user, relation, target)).allowed
    except (RequestRejected, ResilienceError):
        return False


async def never_lets_in(authorizer: OpenFGAAuthorizer, *users: str, rounds: int = 12) -> None:
    """Ask often enough, and long enough, for failures to be counted and probes to be made."""
    for _ in range(rounds):
        for user in users or ("user:mallory",):
            assert not await asked(authorizer, user)
        await asyncio.sleep(0.05)
