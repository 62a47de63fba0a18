"""Whether a token has been revoked since it was signed: Keycloak's word, asked for once in a while for each token.

    confirmed less than `max_age` seconds ago    it stands
    Keycloak says that it is not active          it is refused, now and for as long as this is remembered
    Keycloak cannot be asked                     it is not known: the caller's features are limited

A signature alone does not tell: a session that was ended, a user who was disabled, a client that was deleted leave
tokens behind that verify until they expire (RFC 7009, RFC 7662).
"""

import asyncio
import contextvars
import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcp_server_langgraph.auth._grants import Introspection
from mcp_server_langgraph.auth.identity import ClientRefused, IdentityUnavailable, InvalidToken
from mcp_server_langgraph.resilience import CircuitOpen, Rejected, TimedOut, timeout

__all__ = ["Remembered", "RevocationCheck"]

_log = logging.getLogger(__name__)

_REVOKED: Final = "the token is not active any more (or its audience is not the client that asks Keycloak)"


class Remembered:
    """The moments at which something was said of the last `limit` keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._said: OrderedDict[bytes, float] = OrderedDict()

    def add(self, key: bytes, now: float) -> None:
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > self._limit:
            self._said.popitem(last=False)

    def age(self, key: bytes, now: float) -> float:
        """Seconds since; infinite if never, or forgotten."""
        return now - self._said.get(key, -math.inf)


@dataclass(slots=True)
class _Question:
    """One question to Keycloak, for all who wait for its answer. `active`: the answer, None before it."""

    task: asyncio.Task[None] | None = None
    active: bool | None = None
    failure: Exception | None = None


class RevocationCheck:
    """Asks `introspect`, for one token once in `max_age` seconds at most; many callers share a question.

    `patience`: seconds that a caller waits for an answer. While Keycloak does not answer nobody waits: questions go on
    in the background, and the first answer ends that. `limit`: tokens that are remembered.
    """

    def __init__(
        self,
        introspect: Callable[[str], Awaitable[Introspection]],
        *,
        max_age: float,
        patience: float = 0.5,
        limit: int = 10_000,
    ) -> None:
        self._introspect = introspect
        self._max_age = max_age
        self._patience = patience
        self._confirmed = Remembered(limit)
        # Apart, so that no number of good tokens makes a bad one forgotten.
        self._revoked = Remembered(limit)
        self._questions: dict[bytes, _Question] = {}
        self._outage: Exception | None = None

    async def unknown(self, token: str, signed: str) -> Exception | None:
        """None: the token stands. An exception: why that is not known. `signed`: the token without its signature.

        Raises InvalidToken where it was revoked, and IdentityUnavailable where it is only us who have no room to ask:
        a caller can bring that about, and must not gain by it.
        """
        # The signature is left out: some can be written in two ways. The tokens themselves are not kept.
        key = hashlib.sha256(signed.encode()).digest()
        if self._revoked.age(key, _now()) < math.inf:
            raise InvalidToken(_REVOKED)
        if self._confirmed.age(key, _now()) < self._max_age:
            return None
        question = self._questions.get(key) or self._ask(key, token)
        if self._outage is None:
            await self._wait(question)
        return self._verdict(question)

    async def aclose(self) -> None:
        """Stop asking."""
        tasks = {question.task for question in self._questions.values() if question.task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _verdict(self, question: _Question) -> Exception | None:
        if question.active is not None:
            if not question.active:
                raise InvalidToken(_REVOKED)
            return None
        if question.failure is not None and _is_ours(question.failure):
            raise IdentityUnavailable("too many tokens are being checked", 1.0) from question.failure
        return question.failure or self._outage or _late()

    async def _wait(self, question: _Question) -> None:
        assert question.task is not None
        try:
            async with timeout(self._patience):
                await asyncio.shield(question.task)
        except TimedOut:
            if not question.task.done():
                self._outage = _late()

    def _ask(self, key: bytes, token: str) -> _Question:
        question = self._questions[key] = _Question()
        loop = asyncio.get_running_loop()
        question.task = loop.create_task(
            self._answer(key, token, question), name="revocation", context=contextvars.Context()
        )
        return question

    async def _answer(self, key: bytes, token: str, question: _Question) -> None:
        try:
            active = (await self._introspect(token)).active
        except Exception as error:
            self._failed(question, error)
        else:
            self._outage = None
            question.active = active
            (self._confirmed if active else self._revoked).add(key, _now())
        finally:
            del self._questions[key]

    def _failed(self, question: _Question, error: Exception) -> None:
        question.failure = error
        if _is_ours(error):
            return
        if self._outage is None:
            level = logging.ERROR if isinstance(error, ClientRefused) else logging.WARNING
            _log.log(level, "revoked tokens are not known of: %s", error)
        self._outage = error


def _is_ours(error: Exception) -> bool:
    """Our own bulkhead or limit refused to ask; an open circuit is Keycloak's doing."""
    cause = error.__cause__
    return isinstance(cause, Rejected) and not isinstance(cause, CircuitOpen)


def _late() -> IdentityUnavailable:
    return IdentityUnavailable("Keycloak does not answer in time")


def _now() -> float:
    return asyncio.get_running_loop().time()
