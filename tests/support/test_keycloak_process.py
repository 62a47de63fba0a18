"""Keycloak's own server as tests start it. It is slow to start: one for all these tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.json_http import send
from tests.support.keycloak_process import KeycloakProcess


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeycloakProcess]:
    with KeycloakProcess(Path(tmp_path_factory.mktemp("keycloak"))) as server:
        yield server


def _claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def _kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def _published(keycloak: KeycloakProcess) -> set[str]:
    keys = send("GET", f"{keycloak.issuer}/protocol/openid-connect/certs").expect(200)["keys"]
    return {key["kid"] for key in keys if key["use"] == "sig"}


def test_a_user_s_token_is_meant_for_the_server_and_says_the_roles(keycloak: KeycloakProcess) -> None:
    claims = _claims(keycloak.token("alice"))
    assert claims["iss"] == keycloak.issuer
    assert claims["aud"] == keycloak.audience
    assert claims["sub"] == keycloak.user_id("alice")
    assert claims["realm_access"]["roles"] == ["user"]
    assert claims["resource_access"]["mcp-server"]["roles"] == ["operator"]


def test_a_client_s_own_token_is_meant_for_the_server(keycloak: KeycloakProcess) -> None:
    claims = _claims(keycloak.client_grant().expect(200)["access_token"])
    assert keycloak.audience in claims["aud"]
    assert claims["preferred_username"] == "service-account-agent"


def test_a_wrong_password_gives_no_token(keycloak: KeycloakProcess) -> None:
    assert keycloak.password_grant("alice", "wrong").status != 200


def test_the_server_exchanges_a_token_that_is_meant_for_it(keycloak: KeycloakProcess) -> None:
    kind = "urn:ietf:params:oauth:token-type:access_token"
    grant = "urn:ietf:params:oauth:grant-type:token-exchange"
    token = keycloak.token("alice")
    answer = keycloak.grant("mcp-server", grant_type=grant, subject_token=token, subject_token_type=kind)
    assert _claims(answer.expect(200)["access_token"])["azp"] == "mcp-server"


def test_keys_are_rotated_with_and_without_the_old_ones(keycloak: KeycloakProcess) -> None:
    first = _kid(keycloak.token())
    keycloak.rotate("ES256")
    second = _kid(keycloak.token())
    assert second != first
    assert _published(keycloak) >= {first, second}
    keycloak.rotate(keep_old=False)
    assert _published(keycloak) == {_kid(keycloak.token())}


def test_a_session_that_an_administrator_ends_is_not_refreshed(keycloak: KeycloakProcess) -> None:
    tokens = keycloak.password_grant("bob").expect(200)
    keycloak.logout("bob")
    refreshed = keycloak.grant("agent", grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refreshed.body == {"error": "invalid_grant", "error_description": "Session not active"}


def test_a_revoked_token_is_not_good_for_userinfo(keycloak: KeycloakProcess) -> None:
    token = keycloak.token("bob")
    endpoint = f"{keycloak.issuer}/protocol/openid-connect/userinfo"
    headers = {"authorization": f"Bearer {token}"}
    assert send("GET", endpoint, headers=headers).status == 200
    keycloak.revoke(token)
    assert send("GET", endpoint, headers=headers).status == 401


def test_tokens_can_be_made_short_lived(keycloak: KeycloakProcess) -> None:
    keycloak.set_token_life(2)
    assert keycloak.password_grant().expect(200)["expires_in"] == 2
    keycloak.set_token_life(60)


def test_keys_are_kept_over_a_kill(keycloak: KeycloakProcess) -> None:
    before = _kid(keycloak.token())
    keycloak.kill()
    keycloak.start()
    assert _kid(keycloak.token()) == before
