"""What a confidential client asks Keycloak, against a stand-in that counts what arrives on the wire."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_server_langgraph.auth.identity import (
    ClientRefused,
    IdentityError,
    IdentityUnavailable,
    InvalidGrant,
    InvalidToken,
)
from mcp_server_langgraph.auth.keycloak_client import KeycloakClient
from mcp_server_langgraph.resilience import Bulkhead, Pipeline, registry
from tests.support.eventually import until
from tests.support.keycloak_server import KeycloakServer

pytestmark = pytest.mark.real_time

SECRET = "s3cr3t: %/+ä"


@pytest.fixture
def keycloak(quick_retries: None) -> Iterator[KeycloakServer]:
    with KeycloakServer(clients={"mcp-server": SECRET}) as running:
        yield running


@asynccontextmanager
async def client_of(
    keycloak: KeycloakServer, secret: str = SECRET, **options: Any
) -> AsyncIterator[KeycloakClient]:
    pipeline = options.pop("pipeline", None) or Pipeline.standard("keycloak")
    client = KeycloakClient(keycloak.url, keycloak.realm, "mcp-server", secret, pipeline, **options)
    try:
        yield client
    finally:
        await client.aclose()


async def test_userinfo_tells_about_the_user(keycloak: KeycloakServer) -> None:
    async with client_of(keycloak) as client:
        claims = await client.userinfo(keycloak.token())
    assert claims["preferred_username"] == "alice"


async def test_introspection_says_whether_a_token_is_active(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    async with client_of(keycloak) as client:
        said = await client.introspect(token)
        assert said.active
        assert said.claims["username"] == "alice"
        keycloak.revoke(token)
        said = await client.introspect(token)
    assert (said.active, said.claims) == (False, {})


async def test_a_refresh_gives_new_tokens_and_uses_the_old_one_up(keycloak: KeycloakServer) -> None:
    first = keycloak.refresh_token()
    async with client_of(keycloak) as client:
        tokens = await client.refresh(first)
        assert tokens.expires_in == 300
        assert tokens.refresh_token not in (None, first)
        with pytest.raises(InvalidGrant):
            await client.refresh(first)


async def test_an_exchanged_token_is_for_the_other_service(keycloak: KeycloakServer) -> None:
    async with client_of(keycloak) as client:
        tokens = await client.exchange(keycloak.token(), audience="downstream")
        assert not (await client.introspect(tokens.access_token)).active


async def test_an_audience_that_may_not_be_asked_for_is_this_servers_fault(keycloak: KeycloakServer) -> None:
    async with client_of(keycloak) as client:
        with pytest.raises(ClientRefused, match="invalid_request"):
            await client.exchange(keycloak.token(), audience="treasury")


async def test_a_dead_token_is_the_tokens_fault(keycloak: KeycloakServer) -> None:
    token = keycloak.token()
    keycloak.revoke(token)
    async with client_of(keycloak) as client:
        for ask in (client.userinfo, client.exchange):
            with pytest.raises(InvalidToken):
                await ask(token)


async def test_a_wrong_secret_is_this_servers_fault(keycloak: KeycloakServer) -> None:
    async with client_of(keycloak, "wrong") as client:
        for ask in (client.introspect, client.refresh, client.exchange):
            with pytest.raises(ClientRefused, match=r"(invalid|unauthorized)_client"):
                await ask(keycloak.token())
    assert registry.breakers()["keycloak"].state == "closed"


@pytest.mark.parametrize("fault", ["stop", "hang", "reset", "garbage", "noise"])
@pytest.mark.parametrize("name", ["userinfo", "introspect", "refresh", "exchange"])
async def test_without_keycloak_nobody_is_at_fault(keycloak: KeycloakServer, name: str, fault: str) -> None:
    async with client_of(keycloak) as client:
        await client.userinfo(keycloak.token())
        getattr(keycloak, fault)()
        with pytest.raises(IdentityUnavailable):
            await getattr(client, name)(keycloak.token())


@pytest.mark.parametrize(
    ("name", "requests"), [("userinfo", 3), ("introspect", 3), ("refresh", 1), ("exchange", 1)]
)
@pytest.mark.parametrize("fault", ["reset", "hang", "fail"])
async def test_reads_are_repeated_and_grants_never(
    keycloak: KeycloakServer, name: str, requests: int, fault: str
) -> None:
    async with client_of(keycloak) as client:
        await client.userinfo(keycloak.token())
        before = keycloak.count()
        keycloak.fail(503) if fault == "fail" else getattr(keycloak, fault)()
        with pytest.raises(IdentityUnavailable):
            await getattr(client, name)(keycloak.token())
    assert keycloak.count() - before == requests


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
async def test_no_such_status_says_anything_about_a_token(keycloak: KeycloakServer, status: int) -> None:
    registry.reload({"RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with client_of(keycloak) as client:
        await client.userinfo(keycloak.token())
        keycloak.fail(status, {"active": False, "error": "invalid_grant"}, retry_after="7")
        for ask in (client.userinfo, client.introspect, client.refresh):
            with pytest.raises(IdentityUnavailable) as caught:
                await ask(keycloak.token())
        if status in (429, 503):
            assert caught.value.retry_after == pytest.approx(7)


@pytest.mark.parametrize(
    "reply", [{}, {"active": "true"}, {"active": 1}, {"active": None}, {"Active": True}, [True]]
)
async def test_what_is_not_plainly_yes_or_no_is_no_answer(keycloak: KeycloakServer, reply: object) -> None:
    async with client_of(keycloak) as client:
        keycloak.fail(200, reply, path="/introspect")
        with pytest.raises(IdentityUnavailable):
            await client.introspect(keycloak.token())


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"access_token": "", "token_type": "Bearer"},
        {"access_token": 5, "token_type": "Bearer"},
        {"access_token": "x", "token_type": "DPoP"},
        {"access_token": "x"},
    ],
)
async def test_a_reply_without_a_bearer_token_is_no_answer(keycloak: KeycloakServer, reply: object) -> None:
    async with client_of(keycloak) as client:
        keycloak.fail(200, reply, path="/token")
        with pytest.raises(IdentityUnavailable):
            await client.refresh(keycloak.refresh_token())


async def test_userinfo_of_nobody_is_no_answer(keycloak: KeycloakServer) -> None:
    async with client_of(keycloak) as client:
        keycloak.fail(200, {"email": "alice@example.com"}, path="/userinfo")
        with pytest.raises(IdentityUnavailable):
            await client.userinfo(keycloak.token())


async def test_the_secret_goes_nowhere_but_to_the_realm(keycloak: KeycloakServer) -> None:
    with KeycloakServer() as elsewhere:
        keycloak.rewrite = lambda document: {
            **document,
            "introspection_endpoint": f"{elsewhere.issuer}/protocol/openid-connect/token/introspect",
        }
        async with client_of(keycloak) as client:
            with pytest.raises(IdentityUnavailable):
                await client.introspect(keycloak.token())
        keycloak.rewrite = dict
        async with client_of(keycloak) as client:
            keycloak.fail(307, path="/introspect", location=elsewhere.url)
            with pytest.raises(IdentityUnavailable):
                await client.introspect(keycloak.token())
        assert elsewhere.count() == 0


async def test_an_endpoint_that_the_realm_does_not_have_is_this_servers_fault(
    keycloak: KeycloakServer,
) -> None:
    keycloak.rewrite = lambda document: {
        name: value for name, value in document.items() if name != "introspection_endpoint"
    }
    async with client_of(keycloak) as client:
        with pytest.raises(ClientRefused, match="introspection"):
            await client.introspect(keycloak.token())


async def test_neither_tokens_nor_the_secret_are_told_to_anybody(
    keycloak: KeycloakServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "httpcore2")
    token, refresh = keycloak.token(), keycloak.refresh_token()
    async with client_of(keycloak) as client:
        told = [repr(client), repr(await client.introspect(token)), repr(await client.refresh(refresh))]
        for status in (400, 503):
            keycloak.fail(status, {"error": f"no {token}", "error_description": f"{refresh} {SECRET}"})
            for ask in (client.userinfo, client.introspect, client.refresh, client.exchange):
                with pytest.raises(IdentityError) as caught:
                    await ask(token)
                told += [f"{caught.value!r} {caught.value} {caught.value.__cause__}"]
    everything = caplog.text + "".join(told)
    for secret in (token, token.rpartition(".")[0], refresh, SECRET, "s3cr3t"):
        assert secret not in everything


async def test_a_caller_that_goes_away_gives_its_place_back(keycloak: KeycloakServer) -> None:
    pipeline = Pipeline.standard("keycloak", admission=Bulkhead(1, max_queue=0))
    async with client_of(keycloak, pipeline=pipeline) as client:
        await client.userinfo(keycloak.token())
        keycloak.hang()
        caller = asyncio.create_task(client.refresh("x"))
        await until(lambda: keycloak.count("/token") == 1)
        caller.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await caller
        keycloak.heal()
        assert (await client.introspect(keycloak.token())).active
