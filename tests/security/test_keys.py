"""Key sets that somebody has poisoned, and key ids that somebody makes up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from mcp_server_langgraph.resilience import registry
from tests.security.door import Door, encoded, open_door
from tests.support.eventually import until
from tests.support.keycloak_server import KeycloakServer, SigningKey

pytestmark = pytest.mark.real_time

Keys = list[dict[str, Any]]
SHARED = b"a secret that the stranger has put among the realm's keys"
SYMMETRIC = {"kty": "oct", "kid": "shared", "use": "sig", "alg": "HS256", "k": encoded(SHARED)}
STRANGER = SigningKey("ES256")


async def poisoned(
    keycloak: KeycloakServer, publish: Callable[[Keys], list[Any]], token: str, *, spoilt: bool = False
) -> None:
    """The set becomes what `publish` makes of it: the token does not get in, neither first nor when keys are known.

    `spoilt`: such a set is not taken at all, so the first caller is told to come back; else only a key in it is not.
    """
    keycloak.publish = publish
    async with open_door(keycloak) as door:
        if spoilt:
            assert (await door.knock(token)).status_code == 503
        else:
            await door.refuses(token)
        keycloak.publish = list
    async with open_door(keycloak, KEYCLOAK_KEYS_REFRESH_SECONDS="0.05") as door:
        await door.admits(keycloak.token())
        keycloak.publish = publish
        await until_asked(keycloak, door)
        if spoilt:
            # While a refresh fails nobody can say that a key id is made up: it may be new.
            assert (await door.knock(token)).status_code in (401, 503)
        else:
            await door.refuses(token)
        await door.admits(keycloak.token())


async def until_asked(keycloak: KeycloakServer, door: Door) -> None:
    """Until a set that was asked for from now on has arrived."""
    enough = keycloak.count("/certs") + 2
    async with asyncio.timeout(60):
        while keycloak.count("/certs") < enough:
            await door.admits(keycloak.token())
            await asyncio.sleep(0.06)


async def test_a_symmetric_key_in_the_set_signs_nothing(keycloak: KeycloakServer) -> None:
    token = jwt.encode(keycloak.claims(), SHARED, "HS256", headers={"kid": "shared"})
    await poisoned(keycloak, lambda keys: [*keys, SYMMETRIC], token)


async def test_a_symmetric_key_that_calls_itself_asymmetric_signs_nothing(keycloak: KeycloakServer) -> None:
    token = jwt.encode(keycloak.claims(), SHARED, "HS256", headers={"kid": "shared"})
    await poisoned(keycloak, lambda keys: [*keys, {**SYMMETRIC, "alg": "RS256", "kty": "RSA"}], token)


async def test_a_key_for_encryption_signs_nothing(keycloak: KeycloakServer) -> None:
    token = STRANGER.sign(keycloak.claims())
    await poisoned(keycloak, lambda keys: [*keys, {**STRANGER.jwk(), "use": "enc"}], token)


async def test_a_key_for_signing_only_verifies_nothing(keycloak: KeycloakServer) -> None:
    token = STRANGER.sign(keycloak.claims())
    jwk = {**STRANGER.jwk(), "key_ops": ["sign"]}
    await poisoned(keycloak, lambda keys: [*keys, jwk], token)


async def test_a_private_key_that_was_published_verifies_nothing(keycloak: KeycloakServer) -> None:
    key = SigningKey()
    private = {**RSAAlgorithm.to_jwk(key.private, as_dict=True), "kid": key.kid, "alg": "RS256"}
    private.pop("key_ops", None)
    await poisoned(keycloak, lambda keys: [*keys, private], key.sign(keycloak.claims()))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_weak_key_verifies_nothing(keycloak: KeycloakServer) -> None:
    weak = SigningKey()
    weak.private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    await poisoned(keycloak, lambda keys: [*keys, weak.jwk()], weak.sign(keycloak.claims()))


async def test_a_second_key_under_a_known_id_spoils_the_set(keycloak: KeycloakServer) -> None:
    twin = SigningKey("ES256")
    twin.kid = keycloak.keys[0].kid
    for order in (lambda keys: [*keys, twin.jwk()], lambda keys: [twin.jwk(), *keys]):
        await poisoned(keycloak, order, twin.sign(keycloak.claims()), spoilt=True)


async def test_a_key_of_another_kind_under_a_known_id_takes_no_old_signature(
    keycloak: KeycloakServer,
) -> None:
    old = keycloak.token()
    new = SigningKey("ES256")
    new.kid = keycloak.keys[0].kid
    keycloak.keys = [new]
    async with open_door(keycloak) as door:
        await door.refuses(old)
        await door.admits(keycloak.token())


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([], id="no key"),
        pytest.param([SYMMETRIC], id="nothing but a symmetric key"),
        pytest.param([None, 7, "key", [], {}], id="no keys at all"),
        pytest.param(
            [{"kty": "RSA", "kid": "x", "n": "AQAB", "e": "AQ", "alg": "RS256"}], id="a key of one byte"
        ),
        pytest.param([{"kty": ["RSA"], "kid": "x"}], id="a key of many kinds"),
        pytest.param(
            [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "x"}], id="a point off the curve"
        ),
        pytest.param(
            [{"kty": "OKP", "crv": "X25519", "x": encoded(bytes(32)), "kid": "x"}], id="a key for agreement"
        ),
        pytest.param([{**STRANGER.jwk(), "kid": str(number)} for number in range(300)], id="300 keys"),
        pytest.param([{**STRANGER.jwk(), "pad": "x" * 2_000_000}], id="two megabytes"),
        pytest.param([{**STRANGER.jwk(), "alg": "HS256"}], id="a public key for HS256"),
        pytest.param([{**STRANGER.jwk(), "alg": "none"}], id="a public key for none"),
    ],
)
async def test_a_set_that_cannot_be_meant_is_not_taken(keycloak: KeycloakServer, keys: list[Any]) -> None:
    await poisoned(keycloak, lambda _: keys, STRANGER.sign(keycloak.claims()), spoilt=True)


async def test_a_flood_of_made_up_key_ids_costs_keycloak_nothing_more(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak) as door:
        await door.admits(keycloak.token())
        before = keycloak.count()
        tokens = [keycloak.token(header={"kid": f"made-up-{number}"}) for number in range(200)]
        await asyncio.gather(*(door.refuses(token) for token in tokens))
        await door.admits(keycloak.token())
    assert keycloak.count() == before
    assert registry.breakers()["keycloak"].state == "closed"


async def test_a_flood_before_the_first_keys_costs_keycloak_one_look(keycloak: KeycloakServer) -> None:
    keycloak.delay(0.2)
    tokens = [keycloak.token(header={"kid": f"made-up-{number}"}) for number in range(200)]
    async with open_door(keycloak) as door:
        await asyncio.gather(*(door.knock(token) for token in tokens))
        await until(lambda: keycloak.count())  # callers may give up before a busy process has asked
    assert keycloak.count("/certs") <= 1
    assert keycloak.count("/openid-configuration") == 1


async def test_a_flood_of_bad_signatures_costs_keycloak_nothing(keycloak: KeycloakServer) -> None:
    async with open_door(keycloak, KEYCLOAK_CLIENT_SECRET="mcp-server-secret") as door:
        await door.admits(keycloak.token())
        before = keycloak.count()
        head = keycloak.token().rpartition(".")[0]
        await asyncio.gather(
            *(door.refuses(f"{head}.{encoded(bytes([number]) * 256)}") for number in range(200))
        )
    assert keycloak.count() == before


async def test_an_algorithm_that_the_operator_has_not_allowed_is_refused(
    keycloak: KeycloakServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keycloak.rotate("ES256")
    async with open_door(keycloak, KEYCLOAK_ALGORITHMS="RS256") as door:
        answer = await door.refuses(keycloak.token())
        assert "algorithm" in answer.json()["error_description"]
        await door.admits(keycloak.token(key=keycloak.keys[1]))
