"""The token that OpenFGA wants of this server: on every request, and what is said where it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer, TokenRefused
from mcp_server_langgraph.resilience import Pipeline, registry
from tests.auth.openfga_checks import DOCUMENT, reach
from tests.support.openfga_keyed import KeyedOpenFGAServer

pytestmark = pytest.mark.real_time(limit=120.0)

ANN = ("user:ann", "viewer", DOCUMENT)
WRONG = (
    "OpenFGA refuses this server's own token, not the caller's (status 401): OPENFGA_API_TOKEN must be a key"
)
NONE = "OpenFGA refuses this server, not the caller (status 401): it has no token; set OPENFGA_API_TOKEN"


@pytest.fixture
def openfga(fresh_registry: None) -> Iterator[KeyedOpenFGAServer]:
    """One that wants a key; attempts have all the time that a busy machine takes."""
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "10", "AUTH_TIMEOUT": "30"})
    with KeyedOpenFGAServer(["key"]) as running:
        running.grant(*ANN)
        yield running


@asynccontextmanager
async def asking(
    openfga: KeyedOpenFGAServer, token: str | None, url: str | None = None
) -> AsyncIterator[OpenFGAAuthorizer]:
    pipeline = Pipeline.standard("openfga")
    authorizer = OpenFGAAuthorizer(
        url or openfga.url,
        openfga.store_id,
        None,
        pipeline,
        "closed",
        api_token=token,
        listing_deadline=30.0,
    )
    try:
        yield authorizer
    finally:
        await authorizer.aclose()


async def until_facts(authorizer: OpenFGAAuthorizer, *, problem: bool) -> dict[str, Any]:
    """The facts, once a look of the server's own has brought them about."""
    while ("problem" in authorizer.facts()) is not problem:
        await asyncio.sleep(0.01)
    return authorizer.facts()


async def ask_everything(authorizer: OpenFGAAuthorizer) -> None:
    assert (await authorizer.check(*ANN)).allowed
    assert [one.allowed for one in await authorizer.batch_check([ANN, ("user:bob", *ANN[1:])])] == [
        True,
        False,
    ]
    assert await authorizer.list_objects("user:ann", "viewer", "document") == [DOCUMENT]
    await authorizer.write([("user:cid", "viewer", DOCUMENT)])
    await authorizer.delete([("user:cid", "viewer", DOCUMENT)])


ENDPOINTS = {
    *("GET store", "GET authorization-models", "POST check", "POST batch-check"),
    *("POST streamed-list-objects", "POST write"),
}


@pytest.mark.parametrize("address", ["http://", "http://user:password@"])
async def test_every_request_bears_the_token_whatever_the_address_holds(
    openfga: KeyedOpenFGAServer, address: str
) -> None:
    url = openfga.url.replace("http://", address)
    async with asking(openfga, "key", url) as authorizer:
        await reach(authorizer)
        await ask_everything(authorizer)
    assert openfga.borne == {endpoint: {"Bearer key"} for endpoint in ENDPOINTS}


async def test_without_a_token_no_request_bears_any(openfga: KeyedOpenFGAServer) -> None:
    openfga.keys.add("")
    async with asking(openfga, None) as authorizer:
        await reach(authorizer)
        await ask_everything(authorizer)
    assert openfga.borne == {endpoint: {""} for endpoint in ENDPOINTS}


@pytest.mark.parametrize(("token", "said"), [("lock", WRONG), (None, NONE)])
async def test_a_refusal_says_whose_token_it_is_about_and_is_not_tried_again(
    openfga: KeyedOpenFGAServer, token: str | None, said: str
) -> None:
    async with asking(openfga, token) as authorizer:
        decisions = [await authorizer.check(*ANN), *await authorizer.batch_check([ANN])]
        for decision in decisions:
            assert (decision.allowed, decision.degraded, decision.retry_after) == (False, True, None)
            assert decision.reason.startswith(said)
        for raising in (
            reach(authorizer),
            authorizer.list_objects("user:ann", "viewer", "document"),
            authorizer.write([("user:cid", "viewer", DOCUMENT)]),
        ):
            with pytest.raises(TokenRefused) as caught:
                await raising
            assert str(caught.value).startswith(said)
    for what in ("/check", "/batch-check", "/streamed-list-objects", "/write"):
        assert openfga.count(what) == 1
    assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0
    assert openfga.tuples() == {ANN}


async def test_a_server_with_a_wrong_token_from_the_start_is_unusable_until_the_token_is_good(
    openfga: KeyedOpenFGAServer,
) -> None:
    async with asking(openfga, "lock") as authorizer:
        authorizer.start()
        facts = await until_facts(authorizer, problem=True)
        assert facts["problem"].startswith(WRONG)
        assert (facts["unusable"], facts["model_verified"]) == (True, False)
        openfga.keys.add("lock")
        assert (await authorizer.check(*ANN)).allowed
        facts = await until_facts(authorizer, problem=False)
        assert facts["model_verified"] is True


@pytest.mark.parametrize("how", ["check", "batch_check", "list_objects", "write"])
async def test_a_token_that_is_revoked_at_work_is_found_out_by_whatever_is_asked(
    openfga: KeyedOpenFGAServer, how: str
) -> None:
    async with asking(openfga, "key") as authorizer:
        await reach(authorizer)
        openfga.keys.clear()
        asked: dict[str, Any] = {
            "check": lambda: authorizer.check(*ANN),
            "batch_check": lambda: authorizer.batch_check([ANN]),
            "list_objects": lambda: authorizer.list_objects("user:ann", "viewer", "document"),
            "write": lambda: authorizer.write([("user:cid", "viewer", DOCUMENT)]),
        }
        with suppress(TokenRefused):
            await asked[how]()
        facts = await until_facts(authorizer, problem=True)
        assert facts["problem"].startswith(WRONG)
        assert facts["unusable"] is False


@pytest.mark.parametrize("token", ["", "a b", "key\n", "key\r\nx: y", "schl\u00fcssel", "k\x00"])
async def test_a_token_that_no_header_can_hold_is_refused_and_not_repeated(
    openfga: KeyedOpenFGAServer, token: str
) -> None:
    with pytest.raises(ValueError, match="a token of printable ASCII characters, without blanks") as caught:
        async with asking(openfga, token):
            pass
    assert not token or token not in str(caught.value)
