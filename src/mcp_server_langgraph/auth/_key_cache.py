"""The identity provider's signing keys: fetched by one refresh at a time, kept over failed ones, trusted for a while.

    age < soft age            the keys are used as they are
    soft age <= age < hard    they are used, and refreshed in the background
    hard age <= age           they are not trusted any more: a caller waits for a refresh, or is told to come back

A key id that nobody knows starts one refresh (keys may have been rotated), and then none for a while, so made-up ids
cost the provider nothing. A failed refresh changes no key. See jpadilla/pyjwt issue 1162 for what happens otherwise.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import jwt

from mcp_server_langgraph.auth._http import UnusableReply
from mcp_server_langgraph.auth.identity import IdentityUnavailable
from mcp_server_langgraph.resilience import TimedOut, classify, timeout

__all__ = ["KeyCache", "UnknownKey", "signing_keys"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0

Keys = Mapping[str, jwt.PyJWK]


class UnknownKey(Exception):
    """No key has this id, and the provider was asked lately."""


class KeyCache:
    """Keys by id, from `fetch`. All times are in seconds, on the running loop's clock.

    `unknown_interval`: a refresh for the sake of an unknown id begins no sooner than this after the one before.
    `patience`: how long a caller waits for a refresh, which goes on without it. After a failed refresh the next one
    begins 1, 2, 4, ... 30 seconds later, when a caller needs it.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Keys]],
        *,
        soft_age: float,
        hard_age: float,
        unknown_interval: float,
        patience: float,
    ) -> None:
        if not 0 < soft_age <= hard_age:
            raise ValueError(f"0 < soft_age <= hard_age is needed, not {soft_age} and {hard_age}")
        self._fetch = fetch
        self._soft_age = soft_age
        self._hard_age = hard_age
        self._unknown_interval = unknown_interval
        self._patience = patience
        self._keys: Keys = {}
        self._fetched_at = -math.inf
        self._begun_at = -math.inf
        self._not_before = -math.inf
        self._pause = _FIRST_PAUSE
        self._refresh: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        """Why the last refresh failed; None when it did not."""

    @property
    def age(self) -> float:
        """Seconds since the keys were fetched; infinite before that."""
        return _now() - self._fetched_at

    async def find(self, kid: str) -> jwt.PyJWK:
        """The key with this id. Raises UnknownKey, IdentityUnavailable."""
        if self.age >= self._hard_age:
            await self._refreshed()
            if self.age >= self._hard_age:
                raise self._unavailable("the identity provider's keys cannot be had")
        elif self._is_due() and _now() >= self._not_before:
            self._begin()
        if kid not in self._keys:
            await self._look_again()
        return self._found(kid)

    async def aclose(self) -> None:
        """Stop a refresh that is running."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait({self._refresh})

    def _is_due(self) -> bool:
        return self.failure is not None or self.age >= self._soft_age

    async def _look_again(self) -> None:
        allowed = _now() - self._begun_at >= self._unknown_interval and _now() >= self._not_before
        if allowed or self._refresh is not None:
            await self._refreshed()

    def _found(self, kid: str) -> jwt.PyJWK:
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self.failure is not None or self._refresh is not None:
            raise self._unavailable("the token's key is new, and the identity provider cannot be asked")
        raise UnknownKey

    def _unavailable(self, what: str) -> IdentityUnavailable:
        verdict = classify(self.failure) if self.failure is not None else None
        asked = verdict.retry_after if verdict is not None else None
        error = IdentityUnavailable(what, max(asked or 0.0, self._not_before - _now(), _FIRST_PAUSE))
        error.__cause__ = self.failure
        return error

    async def _refreshed(self) -> None:
        """Wait for a refresh, a running one or a new one if its time has come; not longer than `patience`."""
        if self._refresh is None and _now() < self._not_before:
            return
        refresh = self._refresh or self._begin()
        try:
            async with timeout(self._patience):
                await asyncio.shield(refresh)
        except TimedOut:
            return

    def _begin(self) -> asyncio.Task[None]:
        """One refresh for everyone: it belongs to no caller, so no caller's deadline or cancellation ends it."""
        if self._refresh is None:
            self._begun_at = _now()
            loop = asyncio.get_running_loop()
            self._refresh = loop.create_task(self._fetch_keys(), name="keys", context=contextvars.Context())
        return self._refresh

    async def _fetch_keys(self) -> None:
        try:
            self._keys = await self._fetch()
        except Exception as error:
            self._failed(error)
        else:
            self._fetched_at = _now()
            self._not_before, self._pause, self.failure = -math.inf, _FIRST_PAUSE, None
        finally:
            self._refresh = None

    def _failed(self, error: Exception) -> None:
        self.failure = error
        self._not_before = _now() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        age = round(self.age) if math.isfinite(self._fetched_at) else None
        why = type(error).__name__
        _log.warning("signing keys were not refreshed (%s); those from %s s ago stay in use", why, age)


def signing_keys(document: Mapping[str, Any]) -> Keys:
    """The usable public keys of a JWK set, by id. Raises UnusableReply if there are none.

    Keys for encryption, symmetric keys, and kinds that are not known are left out.
    """
    entries = document.get("keys")
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        try:
            key = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue
        if isinstance(key.key_id, str):
            keys[key.key_id] = key
    if not keys:
        raise UnusableReply("no usable signing key in the JWK set")
    return keys


def _now() -> float:
    return asyncio.get_running_loop().time()
