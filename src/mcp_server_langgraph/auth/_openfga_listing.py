"""The stream in which OpenFGA lists objects, read whole: one that was cut, or that is nobody's, is no list.

Each line is {"result": {"object": "document:1"}}. A listing without objects has no line at all, so emptiness is only
believed where OpenFGA itself says who it is: a proxy's empty page must not read as "no objects".
"""

import json
from typing import Final

import httpx2

from mcp_server_langgraph.auth._http import UnusableReply, without_token

__all__ = ["objects_of"]

_SIGNATURES: Final = ("openfga-store-id", "openfga-authorization-model-id")


async def objects_of(response: httpx2.Response) -> list[str]:
    """Raises httpx2.HTTPError, UnusableReply."""
    if response.status_code != 200:
        await response.aread()
        response.raise_for_status()
        raise UnusableReply(f"a listing of status {response.status_code}")
    # Without either, the end of the body is the end of the connection: nobody could tell that from a cut.
    if not {"transfer-encoding", "content-length"} & set(response.headers):
        raise UnusableReply("a listing whose end cannot be told")
    objects = [_object(line, response.request) async for line in response.aiter_lines() if line.strip()]
    if not objects and not any(name in response.headers for name in _SIGNATURES):
        raise UnusableReply("an empty listing that is not signed by OpenFGA")
    return objects


def _object(line: str, request: httpx2.Request) -> str:
    try:
        found = json.loads(line)["result"]["object"]
    except (ValueError, KeyError, TypeError) as error:
        # An error in mid-stream comes as a line of its own, under status 200.
        said = without_token(line, request)[:200]
        raise UnusableReply(f"not a line of a listing: {said!r}") from error
    if not isinstance(found, str):
        raise UnusableReply("an object that is no text")
    return found
