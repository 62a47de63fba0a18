"""The stand-in for Keycloak, for machines without Maven."""

from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from jwt import PyJWKSet

from tests.support.json_http import send
from tests.support.oidc_process import OidcProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProcess]:
    with OidcProcess(tmp_path_factory.mktemp("oidc")) as running:
        yield running


def _keys(server: OidcProcess) -> PyJWKSet:
    return PyJWKSet.from_dict(send("GET", f"{server.issuer}/protocol/openid-connect/certs").expect(200))


def _verified(server: OidcProcess, token: str) -> dict[str, Any]:
    key = _keys(server)[jwt.get_unverified_header(token)["kid"]]
    return dict(jwt.decode(token, key, ["RS256"], audience=server.audience, issuer=server.issuer))


def test_a_user_s_token_says_what_keycloak_s_says(server: OidcProcess) -> None:
    token = server.token("alice")
    claims = _verified(server, token)
    assert jwt.get_unverified_header(token)["typ"] == "JWT"
    assert claims["typ"] == "Bearer"
    assert claims["azp"] == "agent"
    assert claims["sub"] == "5f0a2f3e-0000-4000-8000-000000000001"
    assert claims["preferred_username"] == "alice"
    assert claims["realm_access"] == {"roles": ["user"]}
    assert claims["resource_access"] == {"mcp-server": {"roles": ["operator"]}}
    assert claims["exp"] - claims["iat"] == 60


def test_a_client_s_own_token_is_meant_for_the_server(server: OidcProcess) -> None:
    claims = _verified(server, server.client_grant().expect(200)["access_token"])
    assert claims["preferred_username"] == "service-account-agent"


def test_wrong_secrets_and_passwords_get_no_token(server: OidcProcess) -> None:
    assert server.password_grant("alice", "wrong").body["error"] == "invalid_grant"
    assert server.password_grant("mallory").body["error"] == "invalid_grant"
    assert server.client_grant("nobody").body["error"] == "invalid_client"
    form = {"client_id": "agent", "client_secret": "wrong", "grant_type": "client_credentials"}
    assert send("POST", f"{server.issuer}/protocol/openid-connect/token", form=form).status == 401


def test_a_token_is_refreshed(server: OidcProcess) -> None:
    tokens = server.password_grant("bob").expect(200)
    refreshed = server.grant("agent", grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert _verified(server, refreshed.expect(200)["access_token"])["preferred_username"] == "bob"


def test_keys_are_kept_over_a_kill_and_rotated(server: OidcProcess) -> None:
    before = server.token()
    server.kill()
    server.start()
    assert _verified(server, before)
    server.rotate()
    after = server.token()
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    assert _verified(server, before)
    server.rotate(keep_old=False)
    assert len(_keys(server).keys) == 1


def test_another_realm_does_not_exist(server: OidcProcess) -> None:
    assert send("GET", f"{server.url}/realms/other").body == {"error": "Realm does not exist"}
