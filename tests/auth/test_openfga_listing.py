"""Listing objects against a stand-in for OpenFGA on a real socket: a list is whole, or an error."""

import pytest

from mcp_server_langgraph.auth.openfga import (
    AuthorizationUnavailable,
    ListingIncomplete,
    ModelMismatch,
    OpenFGAAuthorizer,
    RequestRejected,
)
from mcp_server_langgraph.resilience import TimedOut, registry, timeout
from tests.auth.openfga_checks import DOCUMENT, authorizer_of, break_it
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time


async def documents(authorizer: OpenFGAAuthorizer, user: str = "user:ann") -> list[str]:
    return sorted(await authorizer.list_objects(user, "viewer", "document"))


async def test_a_list_holds_what_the_user_has_the_relation_to(openfga: OpenFGAServer) -> None:
    openfga.grant("user:ann", "owner", "document:other")
    async with authorizer_of(openfga) as authorizer:
        assert await documents(authorizer) == ["document:other", DOCUMENT]
        assert await documents(authorizer, "user:bob") == []
    assert openfga.count("/streamed-list-objects") == 2


async def test_contextual_tuples_are_part_of_a_list(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        listed = await authorizer.list_objects(
            "user:bob", "viewer", "document", contextual_tuples=[("user:bob", "viewer", "document:9")]
        )
    assert listed == ["document:9"]


@pytest.mark.parametrize(
    "how", ["stop", "hang", "reset", "garbage", "noise", "fail_503", "fail_500", "fail_429", "fail_401"]
)
async def test_an_outage_never_looks_like_no_objects(openfga: OpenFGAServer, how: str) -> None:
    registry.reload({"OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with authorizer_of(openfga, principals_needed=1, listing_deadline=0.1) as authorizer:
        break_it(openfga, how)
        for _ in range(3):
            with pytest.raises(AuthorizationUnavailable):
                await documents(authorizer, "user:bob")


@pytest.mark.parametrize("after", [0, 1, 20, 38, 45])
@pytest.mark.parametrize("how", ["cut", "stall"])
async def test_a_list_that_is_cut_anywhere_is_no_list(openfga: OpenFGAServer, how: str, after: int) -> None:
    openfga.grant("user:ann", "viewer", "document:second")
    registry.reload({"OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with authorizer_of(openfga, listing_deadline=0.1) as authorizer:
        getattr(openfga, how)(after)
        with pytest.raises(AuthorizationUnavailable):
            await documents(authorizer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"<html></html>",
        b'{"result":{"object":"document:1"}}\n{"error":{"code":13,"message":"datastore"}}\n',
        b'{"result":{"object":1}}\n',
        b'{"result":{}}\n',
        b"[]\n",
        b'{"objects":[]}',
    ],
)
async def test_what_openfga_did_not_sign_or_finish_is_no_list(openfga: OpenFGAServer, body: bytes) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.fail(200, body, path="/streamed-list-objects")
        with pytest.raises(AuthorizationUnavailable):
            await documents(authorizer)


async def test_a_list_that_took_openfgas_own_time_is_incomplete_and_says_what_was_found(
    openfga: OpenFGAServer,
) -> None:
    async with authorizer_of(openfga, listing_deadline=0.1) as authorizer:
        openfga.delay(0.15)
        with pytest.raises(ListingIncomplete) as caught:
            await documents(authorizer)
    assert caught.value.objects == (DOCUMENT,)
    assert openfga.count("/streamed-list-objects") == 1


async def test_a_list_of_what_the_model_does_not_know_says_so(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        with pytest.raises(ModelMismatch, match="relation 'document#destroyer' not found"):
            await authorizer.list_objects("user:ann", "destroyer", "document")
        with pytest.raises(ModelMismatch, match="type 'folder' not found"):
            await authorizer.list_objects("user:ann", "viewer", "folder")


@pytest.mark.parametrize("kind", ["", "a b", "document:1", "document#viewer", "x" * 300])
async def test_what_is_no_type_is_not_even_asked_for(openfga: OpenFGAServer, kind: str) -> None:
    async with authorizer_of(openfga) as authorizer:
        with pytest.raises(RequestRejected):
            await authorizer.list_objects("user:ann", "viewer", kind)
    assert openfga.count("/streamed-list-objects") == 0


async def test_a_callers_own_deadline_cuts_a_list_and_counts_for_nothing(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.hang(path="/streamed-list-objects")
        for _ in range(6):
            with pytest.raises(TimedOut):
                async with timeout(0.05):
                    await documents(authorizer)
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0


async def test_a_list_is_retried_as_reads_are_and_a_refusal_is_not(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.fail(503, times=2, path="/streamed-list-objects")
        assert await documents(authorizer) == [DOCUMENT]
        assert openfga.count("/streamed-list-objects") == 3
