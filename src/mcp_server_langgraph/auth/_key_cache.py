"""The identity provider's signing keys by id.

They are kept as `_refreshed` says. A key id that nobody knows starts one refresh (keys may have been rotated), and
then none for a while, so made-up ids cost the provider nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

import jwt

from mcp_server_langgraph.auth._key_set import Keys
from mcp_server_langgraph.auth._refreshed import Ages, Refreshed

__all__ = ["KeyCache", "UnknownKey"]


class UnknownKey(Exception):
    """No key has this id, and the provider was asked lately."""


class KeyCache:
    """Keys from `fetch`. All times are in seconds, on the running loop's clock.

    `unknown_interval`: a refresh for the sake of an unknown id begins no sooner than this after the one before.
    `patience`: for so long after a refresh began callers wait for it.
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
        self._keys = Refreshed("signing keys", fetch, Ages(soft_age, hard_age), patience)
        self._unknown_interval = unknown_interval

    @property
    def failure(self) -> Exception | None:
        """Why the last refresh failed; None when it did not."""
        return self._keys.failure

    @property
    def age(self) -> float:
        """Seconds since the keys were fetched; infinite before that."""
        return self._keys.age

    async def find(self, kid: str) -> jwt.PyJWK:
        """The key with this id. Raises UnknownKey, IdentityUnavailable."""
        keys = await self._keys.get()
        if kid not in keys and self._may_look_again():
            await self._keys.renewed()
            keys = await self._keys.get()
        if kid in keys:
            return keys[kid]
        if self._keys.failure is not None or self._keys.running:
            raise self._keys.unavailable("the token's key is new, and the identity provider cannot be asked")
        raise UnknownKey

    async def aclose(self) -> None:
        """Stop a refresh that is running."""
        await self._keys.aclose()

    def _may_look_again(self) -> bool:
        since = asyncio.get_running_loop().time() - self._keys.begun_at
        return self._keys.running or (since >= self._unknown_interval and self._keys.may_begin())
