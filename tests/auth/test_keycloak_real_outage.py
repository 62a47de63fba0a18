"""Keycloak's own server: tokens that it has revoked, and what is left while it hangs or is dead."""

import asyncio

import pytest

from mcp_server_langgraph.auth.identity import InvalidToken
from mcp_server_langgraph.auth.keycloak import KeycloakVerifier, RevocationCheck
from mcp_server_langgraph.resilience import registry
from tests.auth.keycloaks import client_of, patient_verifier_of
from tests.support.keycloak_process import KeycloakProcess

pytestmark = [pytest.mark.real_time(limit=300), pytest.mark.usefixtures("unhurried")]


@pytest.mark.parametrize("how", ["logout", "revoke", "disable"])
async def test_a_token_that_was_revoked_is_refused(keycloak_process: KeycloakProcess, how: str) -> None:
    token = keycloak_process.token("bob")
    user = f"users/{keycloak_process.user_id('bob')}"
    async with client_of(keycloak_process) as client:
        revocation = RevocationCheck(client.introspect, max_age=0.0, patience=20.0)
        async with patient_verifier_of(keycloak_process, revocation=revocation) as verifier:
            assert not (await verifier.verify(token)).degraded
            if how == "logout":
                keycloak_process.logout("bob")
            elif how == "revoke":
                keycloak_process.revoke(token)
            else:
                keycloak_process.admin("PUT", user, {"enabled": False})
            with pytest.raises(InvalidToken, match="not active"):
                await verifier.verify(token)
    keycloak_process.admin("PUT", user, {"enabled": True})


async def test_a_hanging_keycloak_is_answered_for_quickly_and_comes_back(
    keycloak_process: KeycloakProcess,
) -> None:
    registry.reload({"KEYCLOAK_CIRCUIT_BREAKER_TIMEOUT_DURATION": "1"})
    async with client_of(keycloak_process) as client:
        revocation = RevocationCheck(client.introspect, max_age=0.0)
        async with patient_verifier_of(keycloak_process, revocation=revocation) as verifier:
            token = keycloak_process.token()
            await verifier.verify(token)
            keycloak_process.pause()
            try:
                slowest = await slowest_of(20, verifier, token)
            finally:
                keycloak_process.resume()
            assert slowest < 2.0
            await until_whole(verifier, token)


async def test_after_kill_9_the_last_good_keys_go_on_until_it_is_back(
    keycloak_process: KeycloakProcess,
) -> None:
    registry.reload({"KEYCLOAK_CIRCUIT_BREAKER_TIMEOUT_DURATION": "1"})
    async with patient_verifier_of(keycloak_process, soft_age=0.05) as verifier:
        token = keycloak_process.token()
        await verifier.verify(token)
        keycloak_process.kill()
        async with asyncio.timeout(30):
            while not (await verifier.verify(token)).degraded:
                await asyncio.sleep(0.02)
        assert await slowest_of(20, verifier, token) < 2.0
        with pytest.raises(InvalidToken):
            await verifier.verify(f"{token.rpartition('.')[0]}.{'A' * 342}")
        await asyncio.to_thread(keycloak_process.start)
        await until_whole(verifier, token)


async def slowest_of(calls: int, verifier: KeycloakVerifier, token: str) -> float:
    """Seconds of the slowest of these calls, all of which are answered in a degraded way."""
    slowest = 0.0
    for _ in range(calls):
        began = asyncio.get_running_loop().time()
        assert (await verifier.verify(token)).degraded
        slowest = max(slowest, asyncio.get_running_loop().time() - began)
    return slowest


async def until_whole(verifier: KeycloakVerifier, token: str) -> None:
    async with asyncio.timeout(60):
        while (await verifier.verify(token)).degraded:
            await asyncio.sleep(0.05)
