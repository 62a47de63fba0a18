"""Keycloak's own server as tests start it. It is slow to start: one for all these tests."""

from typing import Any

import jwt

from tests.support.json_http import send
from tests.support.keycloak_process import KeycloakProcess


def _claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def _kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def _published(keycloak: KeycloakProcess) -> set[str]:
    keys = send("GET", f"{keycloak.issuer}/protocol/openid-connect/certs").expect(200)["keys"]
    return {key["kid"] for key in keys if key["use"] == "sig"}


def test_a_user_s_token_is_meant_for_the_server_and_says_the_roles(own_keycloak: KeycloakProcess) -> None:
    claims = _claims(own_keycloak.token("alice"))
    assert claims["iss"] == own_keycloak.issuer
    assert claims["aud"] == own_keycloak.audience
    assert claims["sub"] == own_keycloak.user_id("alice")
    assert claims["realm_access"]["roles"] == ["user"]
    assert claims["resource_access"]["mcp-server"]["roles"] == ["operator"]


def test_a_client_s_own_token_is_meant_for_the_server(own_keycloak: KeycloakProcess) -> None:
    claims = _claims(own_keycloak.client_grant().expect(200)["access_token"])
    assert own_keycloak.audience in claims["aud"]
    assert claims["preferred_username"] == "service-account-agent"


def test_a_wrong_password_gives_no_token(own_keycloak: KeycloakProcess) -> None:
    assert own_keycloak.password_grant("alice", "wrong").status != 200


def test_the_server_exchanges_a_token_that_is_meant_for_it(own_keycloak: KeycloakProcess) -> None:
    kind = "urn:ietf:params:oauth:token-type:access_token"
    grant = "urn:ietf:params:oauth:grant-type:token-exchange"
    token = own_keycloak.token("alice")
    answer = own_keycloak.grant("mcp-server", grant_type=grant, subject_token=token, subject_token_type=kind)
    assert _claims(answer.expect(200)["access_token"])["azp"] == "mcp-server"


def test_keys_are_rotated_with_and_without_the_old_ones(own_keycloak: KeycloakProcess) -> None:
    first = _kid(own_keycloak.token())
    own_keycloak.rotate("ES256")
    second = _kid(own_keycloak.token())
    assert second != first
    assert _published(own_keycloak) >= {first, second}
    own_keycloak.rotate(keep_old=False)
    assert _published(own_keycloak) == {_kid(own_keycloak.token())}


def test_a_session_that_an_administrator_ends_is_not_refreshed(own_keycloak: KeycloakProcess) -> None:
    tokens = own_keycloak.password_grant("bob").expect(200)
    own_keycloak.logout("bob")
    refreshed = own_keycloak.grant("agent", grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refreshed.body == {"error": "invalid_grant", "error_description": "Session not active"}


def test_a_revoked_token_is_not_good_for_userinfo(own_keycloak: KeycloakProcess) -> None:
    token = own_keycloak.token("bob")
    endpoint = f"{own_keycloak.issuer}/protocol/openid-connect/userinfo"
    headers = {"authorization": f"Bearer {token}"}
    assert send("GET", endpoint, headers=headers).status == 200
    own_keycloak.revoke(token)
    assert send("GET", endpoint, headers=headers).status == 401


def test_tokens_can_be_made_short_lived(own_keycloak: KeycloakProcess) -> None:
    own_keycloak.set_token_life(20)
    assert own_keycloak.password_grant().expect(200)["expires_in"] <= 20
    own_keycloak.set_token_life(60)


def test_keys_are_kept_over_a_kill(own_keycloak: KeycloakProcess) -> None:
    before = _kid(own_keycloak.token())
    own_keycloak.kill()
    own_keycloak.start()
    assert _kid(own_keycloak.token()) == before
