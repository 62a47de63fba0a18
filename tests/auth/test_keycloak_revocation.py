"""A verifier that asks whether tokens were revoked, against a stand-in for Keycloak on a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcp_server_langgraph.auth.identity import InvalidToken
from mcp_server_langgraph.auth.keycloak import KeycloakVerifier, RevocationCheck
from mcp_server_langgraph.auth.keycloak_client import KeycloakClient
from mcp_server_langgraph.resilience import Pipeline, collect_degradations
from tests.support.keycloak_server import KeycloakServer

pytestmark = pytest.mark.real_time


@asynccontextmanager
async def verifier_of(
    keycloak: KeycloakServer, max_age: float = 0.0, client_id: str = "mcp-server"
) -> AsyncIterator[KeycloakVerifier]:
    pipeline = Pipeline.standard("keycloak")
    secret = keycloak.clients[client_id]
    client = KeycloakClient(keycloak.url, keycloak.realm, client_id, secret, pipeline)
    revocation = RevocationCheck(client.introspect, max_age=max_age)
    verifier = KeycloakVerifier(
        keycloak.url, keycloak.realm, "mcp-server", pipeline, revocation=revocation, soft_age=0.05
    )
    try:
        yield verifier
    finally:
        await verifier.aclose()
        await client.aclose()


async def test_an_active_token_is_accepted_and_nothing_is_limited(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak, max_age=60.0) as verifier:
        token = keycloak.token()
        for _ in range(10):
            assert not (await verifier.verify(token)).degraded
    assert keycloak.count("/introspect") == 1


async def test_a_revoked_token_is_refused_also_when_keycloak_goes_away(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        token = keycloak.token()
        await verifier.verify(token)
        keycloak.revoke(token)
        with pytest.raises(InvalidToken):
            await verifier.verify(token)
        keycloak.stop()
        with pytest.raises(InvalidToken):
            await verifier.verify(token)


@pytest.mark.parametrize("fault", ["stop", "hang", "reset", "garbage", "noise"])
async def test_whatever_keycloak_does_a_good_token_keeps_limited_features(
    keycloak: KeycloakServer, fault: str
) -> None:
    async with verifier_of(keycloak) as verifier:
        await verifier.verify(keycloak.token())
        getattr(keycloak, fault)()
        with collect_degradations() as notes:
            assert (await verifier.verify(keycloak.token())).degraded
        assert [note.source for note in notes] == ["last good keys: limited features"]
        tokens = [keycloak.token() for _ in range(20)]
        began = asyncio.get_running_loop().time()
        for token in tokens:
            assert (await verifier.verify(token)).degraded
        assert asyncio.get_running_loop().time() - began < 2.0, "each would take 0.2 s that waited"


async def test_when_keycloak_is_back_nothing_is_limited_any_more(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.fail(503, path="/introspect")
        assert (await verifier.verify(keycloak.token())).degraded
        keycloak.heal()
        async with asyncio.timeout(10):
            while (await verifier.verify(keycloak.token())).degraded:
                await asyncio.sleep(0.02)


async def test_keys_that_cannot_be_refreshed_limit_nothing_while_keycloak_confirms(
    keycloak: KeycloakServer,
) -> None:
    async with verifier_of(keycloak) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.fail(404, path="/certs")
        asked = keycloak.count("/certs")
        async with asyncio.timeout(10):
            while keycloak.count("/certs") == asked:
                await verifier.verify(keycloak.token())
                await asyncio.sleep(0.02)
        assert not (await verifier.verify(keycloak.token())).degraded


async def test_a_bad_signature_is_never_asked_about(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        head, _, _ = keycloak.token().rpartition(".")
        with pytest.raises(InvalidToken):
            await verifier.verify(f"{head}.AAAA")
    assert keycloak.count("/introspect") == 0


async def test_a_client_outside_the_audience_confirms_nobody(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak, client_id="agent") as verifier:
        with pytest.raises(InvalidToken, match="audience"):
            await verifier.verify(keycloak.token())
