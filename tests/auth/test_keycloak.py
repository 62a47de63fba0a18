"""Tokens against a stand-in for Keycloak on a real socket, which rotates its keys, fails, hangs and lies."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcp_server_langgraph.auth.identity import IdentityUnavailable, InvalidToken
from mcp_server_langgraph.auth.keycloak import ALGORITHMS, KeycloakVerifier
from mcp_server_langgraph.resilience import Degradation, collect_degradations, registry
from tests.auth.keycloaks import verifier_of
from tests.support.keycloak_server import KeycloakServer, SigningKey

pytestmark = pytest.mark.real_time


class FromNow(int):
    """A time so many seconds from when the test runs."""


def token_of(keycloak: KeycloakServer, changes: dict[str, Any], header: dict[str, Any]) -> str:
    now = int(time.time())
    dated = {name: now + value if isinstance(value, FromNow) else value for name, value in changes.items()}
    return keycloak.token(header=header, **dated)


def certs(keycloak: KeycloakServer) -> int:
    """Requests for keys that arrived on the wire."""
    return keycloak.count("/certs")


async def test_an_access_token_tells_who_calls(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        identity = await verifier.verify(keycloak.token())
    assert identity.subject == "5f0a2f3e-0000-4000-8000-000000000001"
    assert identity.username == "alice"
    assert identity.roles == {"offline_access", "user", "operator"}
    assert identity.claims_expire_at == pytest.approx(time.time() + 300, abs=60)
    assert not identity.degraded


async def test_a_token_from_the_token_endpoint_is_accepted(keycloak: KeycloakServer) -> None:
    form = {"grant_type": "client_credentials", "client_id": "agent", "client_secret": "agent-secret"}
    async with httpx2.AsyncClient() as client, verifier_of(keycloak) as verifier:
        reply = await client.post(f"{keycloak.issuer}/protocol/openid-connect/token", data=form)
        identity = await verifier.verify(reply.json()["access_token"])
    assert identity.username == "service-account-agent"


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "ES512"])
async def test_each_asymmetric_algorithm_is_accepted(keycloak: KeycloakServer, algorithm: str) -> None:
    keycloak.rotate(algorithm)
    async with verifier_of(keycloak) as verifier:
        assert (await verifier.verify(keycloak.token())).username == "alice"


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        pytest.param({"aud": "mcp-server"}, {}, id="one audience, not in a list"),
        pytest.param({"aud": "account", "azp": "mcp-server"}, {}, id="asked for by us, for nobody else"),
        pytest.param({"aud": None, "azp": "mcp-server"}, {}, id="asked for by us, no audience"),
        pytest.param({"typ": None}, {"typ": "at+jwt"}, id="RFC 9068"),
        pytest.param({"exp": FromNow(-3)}, {}, id="expired within the leeway"),
        pytest.param({"nbf": FromNow(3)}, {}, id="begins within the leeway"),
    ],
)
async def test_these_tokens_are_accepted(
    keycloak: KeycloakServer, changes: dict[str, Any], header: dict[str, Any]
) -> None:
    async with verifier_of(keycloak) as verifier:
        await verifier.verify(token_of(keycloak, changes, header))


FOREIGN = [
    pytest.param({"exp": FromNow(-60)}, {}, id="expired"),
    pytest.param({"exp": None}, {}, id="never expires"),
    pytest.param({"exp": "tomorrow"}, {}, id="expires in words"),
    pytest.param({"exp": True}, {}, id="expires true"),
    pytest.param({"exp": float("inf")}, {}, id="expires at infinity"),
    pytest.param({"nbf": FromNow(600)}, {}, id="not valid yet"),
    pytest.param({"iat": FromNow(600)}, {}, id="issued in the future"),
    pytest.param({"iss": "http://elsewhere/realms/demo"}, {}, id="another issuer"),
    pytest.param({"iss": None}, {}, id="no issuer"),
    pytest.param({"aud": "another-service"}, {}, id="another audience"),
    pytest.param({"aud": ["another-service"], "azp": "mcp-server"}, {}, id="ours, but for another service"),
    pytest.param({"aud": None}, {}, id="no audience"),
    pytest.param({"typ": "ID"}, {}, id="ID token"),
    pytest.param({"typ": "Refresh"}, {}, id="refresh token"),
    pytest.param({}, {"typ": "logout+jwt"}, id="logout token"),
    pytest.param({"sub": None}, {}, id="no subject"),
    pytest.param({}, {"kid": "made-up"}, id="unknown key"),
    pytest.param({}, {"kid": ""}, id="no key"),
    pytest.param({}, {"crit": ["exp"]}, id="critical header that is not known"),
]


@pytest.mark.parametrize(("changes", "header"), FOREIGN)
async def test_these_tokens_are_not_accepted(
    keycloak: KeycloakServer, changes: dict[str, Any], header: dict[str, Any]
) -> None:
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(token_of(keycloak, changes, header))


async def test_none_of_them_is_accepted_when_keycloak_is_down_either(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak, soft_age=0.01) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.stop()
        await until_degraded(verifier, keycloak)
        for parameters in FOREIGN:
            changes, header = parameters.values
            with pytest.raises((InvalidToken, IdentityUnavailable)):
                await verifier.verify(token_of(keycloak, changes, header))
        for token in (unsigned(keycloak.claims(), kid=keycloak.keys[0].kid), ""):
            with pytest.raises(InvalidToken):
                await verifier.verify(token)
        assert (await verifier.verify(keycloak.token())).degraded


async def test_a_token_signed_by_somebody_else_is_not_accepted(keycloak: KeycloakServer) -> None:
    stranger = SigningKey()
    stranger.kid = keycloak.keys[0].kid
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken, match="signature is not good"):
            await verifier.verify(keycloak.token(key=stranger))


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    parts = [{"alg": "none", "typ": "JWT", **header}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


async def test_an_unsigned_token_is_not_accepted(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        for algorithm in ("none", "None", "", "HS256"):
            token = unsigned(keycloak.claims(), kid=keycloak.keys[0].kid, alg=algorithm)
            with pytest.raises(InvalidToken):
                await verifier.verify(token)
    assert certs(keycloak) == 0


async def test_a_public_key_is_no_shared_secret(keycloak: KeycloakServer) -> None:
    public = keycloak.keys[0].private.public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = unsigned(keycloak.claims(), kid=keycloak.keys[0].kid, alg="HS256").split(".")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = (
        base64.urlsafe_b64encode(algorithm.sign(f"{head}.{body}".encode(), secret)).rstrip(b"=").decode()
    )
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken, match="algorithm is not allowed"):
            await verifier.verify(f"{head}.{body}.{signature}")


async def test_another_algorithm_than_the_keys_own_is_not_accepted(keycloak: KeycloakServer) -> None:
    impostor = SigningKey("PS256")
    impostor.private, impostor.kid = keycloak.keys[0].private, keycloak.keys[0].kid
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken, match="signature is not good"):
            await verifier.verify(keycloak.token(key=impostor))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_key_that_is_too_short_to_trust_is_not_trusted(keycloak: KeycloakServer) -> None:
    key = keycloak.rotate()
    key.private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(keycloak.token())


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "a.b", "a.b.c", "....", "\ud800", "ä.ö.ü", "bnVsbA.bnVsbA.bnVsbA"),
        pytest.param("[" * 15_000, id="brackets"),
        pytest.param("a" * 20_000, id="too long"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.e30", id="nested header"),
    ],
)
async def test_noise_is_an_invalid_token_and_costs_keycloak_nothing(
    keycloak: KeycloakServer, token: str
) -> None:
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(token)
    assert certs(keycloak) == 0


async def test_claims_nested_too_deep_are_an_invalid_token(keycloak: KeycloakServer) -> None:
    head, _, tail = keycloak.token().split(".")
    body = base64.urlsafe_b64encode(b"[" * 9_000).rstrip(b"=").decode()
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(InvalidToken):
            await verifier.verify(f"{head}.{body}.{tail}")


async def test_fifty_first_callers_make_one_request(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    async with verifier_of(keycloak) as verifier:
        await asyncio.gather(*(verifier.verify(token) for _ in range(50)))
    assert certs(keycloak) == 1
    assert keycloak.connections == 1


async def test_rotated_keys_are_found_with_one_request(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak, unknown_key_interval=0.0) as verifier:
        old = keycloak.token()
        await verifier.verify(old)
        keycloak.rotate("ES256")
        new = keycloak.token()
        await asyncio.gather(*(verifier.verify(new) for _ in range(20)))
        await verifier.verify(old)
    assert certs(keycloak) == 2


async def test_made_up_keys_neither_flood_keycloak_nor_open_a_breaker(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak) as verifier:
        await verifier.verify(keycloak.token())
        for number in range(100):
            with pytest.raises(InvalidToken):
                await verifier.verify(keycloak.token(header={"kid": f"made-up-{number}"}))
        assert not (await verifier.verify(keycloak.token())).degraded
    assert certs(keycloak) == 1
    assert registry.breakers()["keycloak"].state == "closed"


async def until_degraded(verifier: KeycloakVerifier, keycloak: KeycloakServer) -> list[Degradation]:
    """Verify until a refresh has failed; the notes of the first degraded answer."""
    token = keycloak.token()
    async with asyncio.timeout(10):
        while True:
            with collect_degradations() as notes:
                if (await verifier.verify(token)).degraded:
                    return list(notes)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["stop", "hang", "reset", "garbage", "noise"])
async def test_whatever_keycloak_does_the_last_good_keys_go_on(keycloak: KeycloakServer, fault: str) -> None:
    async with verifier_of(keycloak, soft_age=0.05) as verifier:
        await verifier.verify(keycloak.token())
        getattr(keycloak, fault)()
        notes = await until_degraded(verifier, keycloak)
        assert [(note.service, note.source) for note in notes] == [
            ("keycloak", "last good keys: limited features")
        ]
        began = asyncio.get_running_loop().time()
        assert (await verifier.verify(keycloak.token())).degraded
        assert asyncio.get_running_loop().time() - began < 0.1


@pytest.mark.parametrize("status", [404, 403, 429, 500, 503])
async def test_no_status_makes_good_keys_disappear(keycloak: KeycloakServer, status: int) -> None:
    async with verifier_of(keycloak, soft_age=0.05) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.fail(status, {"error": "no"})
        assert await until_degraded(verifier, keycloak)


async def test_when_keycloak_is_back_nothing_is_limited_any_more(keycloak: KeycloakServer) -> None:
    registry.reload({"RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with verifier_of(keycloak, soft_age=0.05) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.fail(503)
        await until_degraded(verifier, keycloak)
        keycloak.heal()
        token = keycloak.token()
        async with asyncio.timeout(10):
            while (await verifier.verify(token)).degraded:
                await asyncio.sleep(0.05)


async def test_keys_past_their_hard_age_are_not_trusted(keycloak: KeycloakServer) -> None:
    async with verifier_of(keycloak, soft_age=0.05, hard_age=0.3, patience=0.1) as verifier:
        token = keycloak.token()
        await verifier.verify(token)
        keycloak.stop()
        await asyncio.sleep(0.3)
        with pytest.raises(IdentityUnavailable) as caught:
            await verifier.verify(token)
        assert caught.value.retry_after is not None


@pytest.mark.parametrize("fault", ["stop", "hang", "reset", "garbage"])
async def test_without_any_keys_a_caller_is_told_to_come_back_soon(
    keycloak: KeycloakServer, fault: str
) -> None:
    getattr(keycloak, fault)()
    async with verifier_of(keycloak) as verifier:
        began = asyncio.get_running_loop().time()
        with pytest.raises(IdentityUnavailable) as caught:
            await verifier.verify(keycloak.token())
        assert asyncio.get_running_loop().time() - began < 0.8
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 1


async def test_retry_after_is_passed_on(keycloak: KeycloakServer) -> None:
    registry.reload({"RETRY_STOP_AFTER_ATTEMPT": "1"})
    keycloak.fail(503, retry_after="17")
    async with verifier_of(keycloak) as verifier:
        with pytest.raises(IdentityUnavailable) as caught:
            await verifier.verify(keycloak.token())
    assert caught.value.retry_after == pytest.approx(17)


async def test_the_layer_alone_decides_how_often_keycloak_is_asked(keycloak: KeycloakServer) -> None:
    for attempts in (1, 3):
        settings = {"KEYCLOAK_RETRY_STOP_AFTER_ATTEMPT": str(attempts)}
        registry.reload({**settings, "KEYCLOAK_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})
        keycloak.fail(503, path="/certs")
        before = certs(keycloak)
        async with verifier_of(keycloak) as verifier:
            with pytest.raises(IdentityUnavailable):
                await verifier.verify(keycloak.token())
        assert certs(keycloak) - before == attempts


async def test_with_the_switch_off_good_keys_still_verify(keycloak: KeycloakServer) -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    async with verifier_of(keycloak, soft_age=0.05) as verifier:
        await verifier.verify(keycloak.token())
        keycloak.stop()
        assert await until_degraded(verifier, keycloak) == []
