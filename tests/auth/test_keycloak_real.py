"""Tokens, keys and grants of Keycloak's own server."""

import asyncio

import jwt
import pytest

from mcp_server_langgraph.auth.identity import ClientRefused, InvalidGrant, InvalidToken
from tests.auth.keycloaks import client_of, patient_verifier_of
from tests.support.keycloak_logins import code_grant, dpop_grant
from tests.support.keycloak_process import KeycloakProcess

pytestmark = [pytest.mark.real_time(limit=300), pytest.mark.usefixtures("unhurried")]


def password_tokens(keycloak: KeycloakProcess, user: str = "alice") -> dict[str, str]:
    tokens: dict[str, str] = keycloak.password_grant(user).expect(200)
    return tokens


# Tokens


async def test_a_users_token_tells_who_calls(keycloak_process: KeycloakProcess) -> None:
    async with patient_verifier_of(keycloak_process) as verifier:
        identity = await verifier.verify(keycloak_process.token())
    assert identity.username == "alice"
    assert identity.subject == keycloak_process.user_id("alice")
    assert {"user", "operator"} <= identity.roles
    assert not identity.degraded


async def test_a_programs_own_token_is_accepted(keycloak_process: KeycloakProcess) -> None:
    async with patient_verifier_of(keycloak_process) as verifier:
        identity = await verifier.verify(keycloak_process.client_grant().expect(200)["access_token"])
    assert identity.username == "service-account-agent"


async def test_a_token_of_a_browser_login_with_pkce_is_accepted(keycloak_process: KeycloakProcess) -> None:
    async with patient_verifier_of(keycloak_process) as verifier:
        identity = await verifier.verify(await code_grant(keycloak_process, "mcp-cli", "bob", "bob"))
    assert identity.username == "bob"


@pytest.mark.parametrize("kind", ["id_token", "refresh_token"])
async def test_another_kind_of_token_is_no_access_token(keycloak_process: KeycloakProcess, kind: str) -> None:
    async with patient_verifier_of(keycloak_process) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(password_tokens(keycloak_process)[kind])


async def test_a_token_for_another_audience_is_refused(keycloak_process: KeycloakProcess) -> None:
    async with patient_verifier_of(keycloak_process, audience="another-service") as verifier:
        with pytest.raises(InvalidToken, match="audience"):
            await verifier.verify(keycloak_process.token())


async def test_a_token_of_another_realm_is_refused(keycloak_process: KeycloakProcess) -> None:
    foreign = keycloak_process.admin_token()
    async with patient_verifier_of(keycloak_process) as verifier:
        with pytest.raises(InvalidToken, match="somebody else"):
            await verifier.verify(foreign)


async def test_a_token_that_has_expired_is_refused(keycloak_process: KeycloakProcess) -> None:
    keycloak_process.set_token_life(1)
    token = keycloak_process.token()
    keycloak_process.set_token_life(300)
    await asyncio.sleep(1.1)
    async with patient_verifier_of(keycloak_process, leeway=0.0) as verifier:
        with pytest.raises(InvalidToken, match="expired"):
            await verifier.verify(token)


async def test_a_token_that_is_bound_to_a_key_is_refused_without_its_proof(
    keycloak_process: KeycloakProcess,
) -> None:
    token = await dpop_grant(keycloak_process, "agent", "alice", "alice")
    assert "jkt" in jwt.decode(token, options={"verify_signature": False})["cnf"]
    async with patient_verifier_of(keycloak_process) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(token)


# Keys


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA", "RS256"])
async def test_rotated_keys_are_found_and_the_old_ones_go_on(
    keycloak_process: KeycloakProcess, algorithm: str
) -> None:
    old = keycloak_process.token()
    async with patient_verifier_of(keycloak_process) as verifier:
        await verifier.verify(old)
        keycloak_process.rotate(algorithm)
        new = keycloak_process.token()
        assert jwt.get_unverified_header(new)["alg"] == algorithm
        await verifier.verify(new)
        await verifier.verify(old)


async def test_a_key_that_was_withdrawn_is_not_accepted_any_more(keycloak_process: KeycloakProcess) -> None:
    old = keycloak_process.token()
    async with patient_verifier_of(keycloak_process) as verifier:
        await verifier.verify(old)
        keycloak_process.rotate("RS256", keep_old=False)
        await verifier.verify(keycloak_process.token())
        with pytest.raises(InvalidToken):
            await verifier.verify(old)


# What a client asks


async def test_userinfo_tells_about_the_user(keycloak_process: KeycloakProcess) -> None:
    async with client_of(keycloak_process) as client:
        claims = await client.userinfo(keycloak_process.token())
        assert (claims["preferred_username"], claims["email"]) == ("alice", "alice@example.com")
        without_scope = keycloak_process.client_grant().expect(200)["access_token"]
        for token in (without_scope, "nonsense"):
            with pytest.raises(InvalidToken):
                await client.userinfo(token)


async def test_a_refresh_uses_its_token_up(keycloak_process: KeycloakProcess) -> None:
    first = password_tokens(keycloak_process)["refresh_token"]
    async with (
        client_of(keycloak_process, "agent") as client,
        patient_verifier_of(keycloak_process) as verifier,
    ):
        tokens = await client.refresh(first)
        assert (await verifier.verify(tokens.access_token)).username == "alice"
        assert tokens.refresh_token not in (None, first)
        for spent in (first, "nonsense"):
            with pytest.raises(InvalidGrant):
                await client.refresh(spent)


async def test_a_token_is_exchanged_for_one_for_another_service(keycloak_process: KeycloakProcess) -> None:
    add_audience(keycloak_process, "mcp-server", "agent")
    async with (
        client_of(keycloak_process) as client,
        patient_verifier_of(keycloak_process, audience="agent") as verifier,
    ):
        token = keycloak_process.token()
        exchanged = await client.exchange(token, audience="agent")
        identity = await verifier.verify(exchanged.access_token)
        with pytest.raises(InvalidToken):
            await verifier.verify(token)
        with pytest.raises(InvalidToken):
            await client.exchange("nonsense")
        with pytest.raises(ClientRefused):
            await client.exchange(token, audience="nobody")
    assert identity.username == "alice"


async def test_introspection_knows_of_a_logout(keycloak_process: KeycloakProcess) -> None:
    token = keycloak_process.token("bob")
    async with client_of(keycloak_process) as client:
        said = await client.introspect(token)
        assert (said.active, said.claims["username"]) == (True, "bob")
        keycloak_process.logout("bob")
        assert not (await client.introspect(token)).active


async def test_a_client_outside_the_audience_is_told_nothing(keycloak_process: KeycloakProcess) -> None:
    async with client_of(keycloak_process, "agent") as client:
        assert not (await client.introspect(keycloak_process.token())).active


async def test_a_wrong_secret_is_this_servers_fault(keycloak_process: KeycloakProcess) -> None:
    async with client_of(keycloak_process, secret="wrong") as client:
        with pytest.raises(ClientRefused):
            await client.introspect(keycloak_process.token())
        with pytest.raises(ClientRefused):
            await client.refresh(password_tokens(keycloak_process)["refresh_token"])


def add_audience(keycloak: KeycloakProcess, client: str, audience: str) -> None:
    """Tokens of the client may be for that audience, too."""
    [found] = keycloak.admin("GET", f"clients?clientId={client}")
    mapper = {
        "name": f"meant for {audience}",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.client.audience": audience, "access.token.claim": "true"},
    }
    keycloak.admin("POST", f"clients/{found['id']}/protocol-mappers/models", mapper)
