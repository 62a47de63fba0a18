"""Asks the server a question as a user of the demo realm: ``ask.py KEYCLOAK SERVER USER MESSAGE``.

The user's password is the user's name, and the client's secret stands in the demo realm: both are for a demo alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.parse
import urllib.request

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent

__all__ = ["ask", "token_of"]


def token_of(keycloak: str, user: str) -> str:
    """A token of the user, from Keycloak."""
    form = {
        "grant_type": "password",
        "client_id": "agent",
        "client_secret": "agent-secret",
        "username": user,
        "password": user,
    }
    url = f"{keycloak}/realms/demo/protocol/openid-connect/token"
    with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), timeout=10) as answer:
        return str(json.load(answer)["access_token"])


async def ask(server: str, token: str, message: str) -> str:
    """What the agent answers and what stood in for which service, or why it does not answer."""
    http = httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=60)
    async with http, Client(streamable_http_client(server, http_client=http)) as client:
        result = await client.call_tool("agent_chat", {"message": message})
    answer = result.structured_content
    if answer is not None:
        stood_in = [f"  degraded: {why['service']} - {why['source']}" for why in answer["degraded_reasons"]]
        return "\n".join([str(answer["answer"]), *stood_in])
    return "\n".join(content.text for content in result.content if isinstance(content, TextContent))


if __name__ == "__main__":
    keycloak, server, user, message = sys.argv[1:]
    try:
        token = token_of(keycloak, user)
    except OSError as error:
        sys.exit(f"Keycloak gives no token: {error}")
    print(asyncio.run(ask(server, token, message)))
