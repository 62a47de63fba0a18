"""OpenFGA's HTTP API, the three requests of it that are needed, one attempt each.

The official SDK is not used. Measured here: it takes 750-1,000 ms to import against 190 ms for httpx2, which the
MCP SDK has loaded anyway; it waits 300 s, and retries three times, unless told otherwise; it reads `Retry-After: 5`
as a date and loses it; and it lets aiohttp's errors through beside its own. (openfga-sdk 0.10.5.)
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2

from mcp_server_langgraph.auth._http import UnusableReply, json_reply, new_client

__all__ = ["OpenFGAApi", "RelationTuple", "refusal"]

_LONGEST_REFUSAL: Final = 300


class RelationTuple(NamedTuple):
    """`user` has `relation` to `object`, as in ("user:anne", "viewer", "document:1")."""

    user: str
    relation: str
    object: str


class OpenFGAApi:
    """One store. Raises httpx2.HTTPError and UnusableReply."""

    def __init__(self, api_url: str, store_id: str, model_id: str | None) -> None:
        self._client = new_client(api_url)
        self._store = f"/stores/{quote(store_id, safe='')}"
        self._model = {} if model_id is None else {"authorization_model_id": model_id}

    async def check(self, question: RelationTuple) -> bool:
        reply = json_reply(
            await self._client.post(
                f"{self._store}/check", json={"tuple_key": question._asdict(), **self._model}
            )
        )
        allowed = reply.get("allowed")
        if not isinstance(allowed, bool):
            raise UnusableReply("the reply to a check does not say whether it is allowed")
        return allowed

    async def write(self, writes: Iterable[RelationTuple], deletes: Iterable[RelationTuple]) -> None:
        """Write and delete in one transaction. What is there, or gone, already is left as it is (OpenFGA 1.10)."""
        body: dict[str, Any] = dict(self._model)
        if added := [entry._asdict() for entry in writes]:
            body["writes"] = {"tuple_keys": added, "on_duplicate": "ignore"}
        if removed := [entry._asdict() for entry in deletes]:
            body["deletes"] = {"tuple_keys": removed, "on_missing": "ignore"}
        json_reply(await self._client.post(f"{self._store}/write", json=body))

    async def probe(self) -> None:
        """Read the store's own record: a request that no caller has any influence on."""
        reply = json_reply(await self._client.get(self._store))
        if "id" not in reply:
            raise UnusableReply("the store's record has no id")

    async def aclose(self) -> None:
        await self._client.aclose()


def refusal(error: httpx2.HTTPStatusError) -> str:
    """What OpenFGA says is wrong with a request."""
    try:
        body = error.response.json()
        text = f"{body['code']}: {body['message']}"
    except (ValueError, KeyError, TypeError):
        text = f"status {error.response.status_code}"
    return text[:_LONGEST_REFUSAL]
