"""Logins at Keycloak's own server that take more than one form: a browser's, and one with a key of the client's own."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
import time
import uuid
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt

from tests.support.keycloak_process import KeycloakProcess
from tests.support.keycloak_server import SigningKey

__all__ = ["code_grant", "dpop_grant"]

_BACK = "http://127.0.0.1/back"


async def code_grant(keycloak: KeycloakProcess, client_id: str, user: str, password: str) -> str:
    """An access token by authorization code and PKCE (RFC 7636), as a public client with a browser gets it."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": _BACK,
        "scope": "openid",
        "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    }
    endpoint = f"{keycloak.issuer}/protocol/openid-connect"
    async with httpx2.AsyncClient(timeout=60) as browser:
        page = await browser.get(f"{endpoint}/auth", params=asked)
        found = re.search(r'action="([^"]+)"', page.text)
        assert found is not None, page.text
        entered = {"username": user, "password": password}
        # As a browser does on a loopback address; the client keeps cookies marked Secure to itself there.
        cookies = "; ".join(cookie.partition(";")[0] for cookie in page.headers.get_list("set-cookie"))
        back = await browser.post(html.unescape(found[1]), data=entered, headers={"cookie": cookies})
        [code] = parse_qs(urlsplit(back.headers["location"]).query)["code"]
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "redirect_uri": _BACK,
            "code": code,
            "code_verifier": verifier,
        }
        tokens = (await browser.post(f"{endpoint}/token", data=form)).json()
    return str(tokens["access_token"])


async def dpop_grant(keycloak: KeycloakProcess, client_id: str, user: str, password: str) -> str:
    """An access token that is bound to a key (RFC 9449)."""
    url = f"{keycloak.issuer}/protocol/openid-connect/token"
    key = SigningKey("ES256")
    public = {name: value for name, value in key.jwk().items() if name in ("kty", "crv", "x", "y")}
    proof = jwt.encode(
        {"htm": "POST", "htu": url, "iat": int(time.time()), "jti": str(uuid.uuid4())},
        key.private,
        "ES256",
        headers={"typ": "dpop+jwt", "jwk": public},
    )
    form = {
        "grant_type": "password",
        "client_id": client_id,
        "client_secret": keycloak.clients[client_id],
        "username": user,
        "password": password,
    }
    async with httpx2.AsyncClient(timeout=60) as client:
        tokens = (await client.post(url, data=form, headers={"dpop": proof})).json()
    assert tokens["token_type"] == "DPoP", tokens
    return str(tokens["access_token"])
