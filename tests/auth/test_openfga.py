"""Permission checks and writes against a stand-in for OpenFGA on a real socket."""

import asyncio

import pytest

from mcp_server_langgraph.auth.openfga import (
    AuthorizationUnavailable,
    ModelMismatch,
    OpenFGAAuthorizer,
    RequestRejected,
)
from mcp_server_langgraph.resilience import Pipeline, collect_degradations, registry
from tests.auth.openfga_checks import DOCUMENT, authorizer_of, break_it
from tests.support.eventually import until
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time


async def test_a_check_says_what_openfga_says(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        with collect_degradations() as notes:
            allowed = await authorizer.check("user:ann", "viewer", DOCUMENT)
            denied = await authorizer.check("user:bob", "viewer", DOCUMENT)
    assert (allowed.allowed, allowed.degraded, allowed.age) == (True, False, None)
    assert (denied.allowed, denied.degraded, denied.age) == (False, False, None)
    assert notes == []
    assert openfga.checks == 2


async def test_without_a_model_id_the_stores_latest_model_decides(openfga: OpenFGAServer) -> None:
    authorizer = OpenFGAAuthorizer(openfga.url, openfga.store_id, None, Pipeline.standard("openfga"))
    assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
    await authorizer.aclose()


async def test_what_is_written_is_allowed_and_what_is_deleted_is_not(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        await authorizer.write([("user:bob", "viewer", DOCUMENT)], [("user:ann", "viewer", DOCUMENT)])
        assert (await authorizer.check("user:bob", "viewer", DOCUMENT)).allowed
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
        await authorizer.write([("user:bob", "viewer", DOCUMENT)], [("user:ann", "viewer", DOCUMENT)])
        await authorizer.write()
    assert openfga.tuples() == {("user:bob", "viewer", DOCUMENT)}
    assert openfga.count("/write") == 2


async def test_ten_malformed_checks_by_one_user_change_nothing_for_others(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        for _ in range(10):
            with pytest.raises(RequestRejected, match="relation 'document#destroyer' not found"):
                await authorizer.check("user:mallory", "destroyer", DOCUMENT)
        assert openfga.checks == 10
        assert registry.breakers()["openfga"].state == "closed"
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


@pytest.mark.parametrize(
    "question",
    [
        ("", "viewer", DOCUMENT),
        ("ann", "viewer", DOCUMENT),
        ("user:", "viewer", DOCUMENT),
        ("user:ann", "", DOCUMENT),
        ("user:ann", "viewer", "plan"),
        ("user:an n", "viewer", DOCUMENT),
        ("user:ann", "viewer", "document:a b"),
    ],
)
async def test_what_is_no_question_is_not_even_asked(
    openfga: OpenFGAServer, question: tuple[str, str, str]
) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.stop()
        with pytest.raises(RequestRejected):
            await authorizer.check(*question)
        with pytest.raises(RequestRejected):
            await authorizer.write([question])
    assert openfga.checks == 0


async def test_a_rejected_write_says_why(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        with pytest.raises(RequestRejected, match="not an allowed type restriction"):
            await authorizer.write([("document:1", "viewer", DOCUMENT)])


async def test_the_layer_alone_decides_how_often_openfga_is_asked(openfga: OpenFGAServer) -> None:
    for attempts in (1, 3):
        settings = {"OPENFGA_RETRY_STOP_AFTER_ATTEMPT": str(attempts)}
        registry.reload({**settings, "OPENFGA_RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})
        async with authorizer_of(openfga) as authorizer:
            openfga.fail(503)
            before = openfga.checks
            await authorizer.check("user:ann", "viewer", DOCUMENT)
            assert openfga.checks - before == attempts
        openfga.heal()


@pytest.mark.parametrize("how", ["reset", "fail_503", "fail_429"])
async def test_a_write_is_made_once_and_reported_if_nobody_knows(openfga: OpenFGAServer, how: str) -> None:
    async with authorizer_of(openfga) as authorizer:
        break_it(openfga, how)
        with pytest.raises(AuthorizationUnavailable):
            await authorizer.write([("user:bob", "viewer", DOCUMENT)])
    assert openfga.count("/write") == 1


async def test_a_write_makes_earlier_decisions_void(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
        await authorizer.write(deletes=[("user:ann", "viewer", DOCUMENT)])
        openfga.stop()
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


async def test_checks_and_writes_share_one_breaker(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.stop()
        for _ in range(5):
            with pytest.raises(AuthorizationUnavailable):
                await authorizer.write([("user:bob", "viewer", DOCUMENT)])
        assert registry.breakers()["openfga"].state == "open"


async def test_a_doubt_that_comes_up_right_after_a_look_is_looked_into(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, needed_relations=["document#viewer"]) as authorizer:
        authorizer.start()
        await until(lambda: authorizer.facts()["model_verified"])
        openfga.fail(404, {"code": "store_id_not_found", "message": "Store ID not found"})
        with pytest.raises(ModelMismatch):
            await authorizer.check("user:ann", "viewer", DOCUMENT)
        await until(lambda: "problem" in authorizer.facts())


async def test_many_doubts_at_once_are_few_looks(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        before = openfga.count("GET")
        for _ in range(20):
            with pytest.raises(ModelMismatch):
                await authorizer.check("user:ann", "destroyer", DOCUMENT)
        await until(lambda: openfga.count("GET") - before >= 2)
        await asyncio.sleep(0.2)
        assert openfga.count("GET") - before <= 4
