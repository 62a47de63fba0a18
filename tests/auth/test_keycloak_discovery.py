"""Where the keys are is told by the realm: against a stand-in that tells lies."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from mcp_server_langgraph.auth.identity import IdentityUnavailable
from tests.auth.keycloaks import verifier_of
from tests.support.keycloak_server import KeycloakServer

pytestmark = pytest.mark.real_time

DISCOVERY = "/openid-configuration"


def evil_keys(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "jwks_uri": "http://127.0.0.1:9/realms/demo/evil"}


def evil_issuer(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "issuer": "http://evil.example/realms/demo"}


async def test_many_first_callers_cost_one_document_and_one_key_set(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    async with verifier_of(keycloak) as verifier:
        await asyncio.gather(*(verifier.verify(token) for _ in range(50)))
    assert (keycloak.count(DISCOVERY), keycloak.count("/certs")) == (1, 1)


@pytest.mark.parametrize("poison", [evil_keys, evil_issuer])
async def test_a_poisoned_first_document_lets_nobody_in(
    keycloak: KeycloakServer, poison: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    keycloak.rewrite = poison
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(keycloak.token())
    assert keycloak.count("/certs") == 0


@pytest.mark.parametrize("poison", [evil_keys, evil_issuer])
async def test_a_poisoned_later_document_is_refused_and_the_last_good_one_kept(
    keycloak: KeycloakServer, poison: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    async with verifier_of(keycloak, soft_age=0.05) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.rewrite = poison
        asked = keycloak.count("/certs")
        async with asyncio.timeout(10):
            while keycloak.count("/certs") < asked + 3 or keycloak.count(DISCOVERY) < 2:
                identity = await verifier.verify(keycloak.token())
                await asyncio.sleep(0.02)
    assert not identity.degraded


async def test_an_answer_that_would_fill_the_memory_is_not_read(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        keycloak.rewrite = lambda document: {**document, "pad": "x" * 2_000_000}
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(keycloak.token())
    async with verifier_of(keycloak) as verifier:
        keycloak.rewrite = dict
        keycloak.publish = lambda keys: [*keys, {"pad": "x" * 2_000_000}]
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(keycloak.token())


async def test_an_answer_that_was_compressed_unasked_is_not_unpacked(keycloak: KeycloakServer) -> None:
    document = gzip.compress(json.dumps({"keys": [keycloak.keys[0].jwk()]}).encode())
    keycloak.fail(200, document, path="/certs", content_encoding="gzip")
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(keycloak.token())


async def test_an_answer_that_drips_is_cut_by_the_attempts_time(keycloak: KeycloakServer) -> None:
    keycloak.stall(10, path="/certs")
    loop = asyncio.get_running_loop()
    async with verifier_of(keycloak) as verifier:
        began = loop.time()
        with pytest.raises(IdentityUnavailable):
            await verifier.verify(keycloak.token())
        assert loop.time() - began < 1.0


@pytest.mark.parametrize("path", [DISCOVERY, "/certs"])
async def test_a_redirect_is_not_followed(keycloak: KeycloakServer, path: str) -> None:
    with KeycloakServer() as elsewhere:
        keycloak.fail(302, path=path, location=f"{elsewhere.url}{elsewhere.certs_path}")
        async with verifier_of(keycloak) as verifier:
            with pytest.raises(IdentityUnavailable):
                await verifier.verify(keycloak.token())
        assert elsewhere.count() == 0


async def test_tokens_may_name_another_issuer_than_the_address_where_it_is_configured(
    keycloak: KeycloakServer,
) -> None:
    public = "https://id.example/realms/demo"
    keycloak.rewrite = lambda document: {**document, "issuer": public}
    async with verifier_of(keycloak, issuer=public) as verifier:
        assert (await verifier.verify(keycloak.token(iss=public))).username == "alice"
