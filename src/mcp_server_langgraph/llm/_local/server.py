"""The local model's server as a child process: started when it is first asked for, and anew when it has died or hangs.

A process of its own, because loading the weights holds Python's global lock for more than a second (measured: the
event loop did not turn once), and because what crashes in native code takes its process with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .hang import Hang
from .restarts import Restarts
from .signs import says_a_word
from .watch import Watch, moment

__all__ = ["Endpoint", "LocalServer", "LocalServerDown"]

logger = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
"""Seconds to load the weights; it takes one or two of a processor that does nothing else."""
STOP_SECONDS: Final = 2.0
QUESTION_SECONDS: Final = 5.0
"""Seconds in which a child that may be hung is to say a word. It takes a tenth of one, and a caller waits for it."""


class LocalServerDown(ConnectionError):
    """The server of the local model could not be started, or died so lately that it is not started again yet."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a child answers, in the way of OpenAI (below ``/v1``) and of Anthropic, and the key that it wants."""

    url: str
    key: str


class LocalServer:
    """One child and those after it. ``asked``: what a child is told (see ``child``). For one event loop."""

    def __init__(self, asked: Mapping[str, Any], command: tuple[str, ...] = ()) -> None:
        self._asked = dict(asked)
        self._command = command or (sys.executable, "-m", "mcp_server_langgraph.llm._local.child")
        self._restarts = Restarts()
        self._child: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._hang = Hang(float("-inf"))
        self._starting: asyncio.Task[Endpoint] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's; None while there is none."""
        return None if self._child is None or _ended(self._child) else self._child.pid

    @property
    def suspected(self) -> bool:
        """Whether the child is asked for a word before the next call goes to it."""
        return self._hang.suspected

    def watch(self) -> Watch:
        """For a caller that begins to wait for the child."""
        return Watch(self._hang, None if self._child is None else self._child.pid)

    async def endpoint(self) -> Endpoint:
        """Where to ask. Starts the child unless it runs, and anew where it is found hung. Raises LocalServerDown."""
        if self._endpoint is not None and self.pid is not None and not self.suspected:
            return self._endpoint
        if self._starting is None:
            self._starting = asyncio.create_task(self._started(), name="start local model")
            self._starting.add_done_callback(self._start_ended)
        # Not `await task`: a caller that goes away must not take the model of the others with it.
        starting = self._starting
        await asyncio.wait({starting})
        if starting.cancelled():
            raise LocalServerDown("the local model is closed")
        return starting.result()

    async def aclose(self) -> None:
        """End the child; it is not started again."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self._end()

    def _start_ended(self, task: asyncio.Task[Endpoint]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # those who wait for it raise it; nobody need be waiting any more

    async def _started(self) -> Endpoint:
        if self._closed:
            raise LocalServerDown("the local model is closed")
        if self._endpoint is not None and self.pid is not None and not await self._hung(self._endpoint):
            return self._endpoint
        if self._endpoint is not None and self._child is not None:
            await self._died(self._child)
        wait = self._restarts.wait(asyncio.get_running_loop().time())
        if wait > 0:
            raise LocalServerDown(
                f"the local model died; it is started again in {wait:.1f} s at the earliest"
            )
        return await self._new()

    async def _new(self) -> Endpoint:
        try:
            self._endpoint = await self._start()
        except BaseException as error:
            self._restarts.ended(asyncio.get_running_loop().time())
            await self._end()
            if isinstance(error, LocalServerDown) or not isinstance(error, Exception):
                raise
            raise LocalServerDown(f"the local model could not be started: {error}") from error
        now = asyncio.get_running_loop().time()
        self._restarts.started(now)
        self._hang = Hang(now)
        logger.info("local model started", extra={"fields": {"pid": self.pid, "url": self._endpoint.url}})
        return self._endpoint

    async def _hung(self, endpoint: Endpoint) -> bool:
        """Whether the child, which is suspected, is hung. It is killed then."""
        assert self._child is not None
        since = moment(self._child.pid)
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                answered = await says_a_word(endpoint.url, endpoint.key)
        except OSError:  # TimeoutError is one
            answered = False
        until = moment(self._child.pid)
        if answered:
            self._hang.answered(until.at)
        elif self._hang.unanswered(since, until):
            silent = round(until.at - self._hang.well_at, 1)
            logger.warning("local model hangs", extra={"fields": {"pid": self.pid, "silent_seconds": silent}})
            await _killed(self._child)
            return True
        return False

    async def _died(self, child: asyncio.subprocess.Process) -> None:
        code = await child.wait()  # the loop, too, has to hear of it before the child is forgotten
        logger.warning("local model died", extra={"fields": {"exit_code": code}})
        now = asyncio.get_running_loop().time()
        # One that hung has lived, for the wait before the next, until it last gave something.
        self._restarts.ended(now, self._hang.well_at if self.suspected else None)
        self._endpoint = self._child = None
        self._hang = Hang(now)

    async def _start(self) -> Endpoint:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        # In a session of its own: a Ctrl-C meant for the server, which drains, would end the child at once.
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=null, start_new_session=True
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        key = secrets.token_urlsafe(32)
        self._child.stdin.write(json.dumps({**self._asked, "key": key}).encode() + b"\n")
        async with asyncio.timeout(START_SECONDS):
            told = await self._child.stdout.readline()
        answer = json.loads(told or '{"error": "its process ended"}')
        if "error" in answer:
            raise LocalServerDown(f"the local model could not be started: {answer['error']}")
        return Endpoint(answer["url"], key)

    async def _end(self) -> None:
        child, self._child, self._endpoint = self._child, None, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
        except TimeoutError:
            pass
        finally:
            # Also where this wait is cancelled: a child that hangs does not hear that its stdin has ended.
            if child.returncode is None:
                await _killed(child)


async def _killed(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _ended(process: asyncio.subprocess.Process) -> bool:
    """Whether it has ended by now. The loop hears of it later: until then a call would be sent to nobody."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
