"""Closes a server of asyncio's without leaving connections half accepted."""

import asyncio

__all__ = ["close_server"]

_TURNS = 5
"""Of the loop, until the handler of a connection that was accepted runs; it takes four."""


async def close_server(server: asyncio.Server) -> None:
    """Accept nothing any more, and give those that were accepted their handlers; whoever waits is refused.

    A connection that becomes a transport after ``Server.close`` is dropped without being closed, and is complained of
    when it is collected: in whatever test runs then.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
