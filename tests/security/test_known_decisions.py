"""Attempts to be let in by what was decided for somebody else, or by what an outage does allow."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer, Question, RequestRejected
from mcp_server_langgraph.resilience import registry
from tests.auth.openfga_checks import DOCUMENT, until_allowed_unchecked
from tests.security.attackers import MALFORMED, asked, gullible
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time

ANN = ("user:ann", "viewer", DOCUMENT)
MALLORY = ("user:mallory", "viewer", DOCUMENT)


@pytest.fixture
def openfga(fresh_registry: None) -> Iterator[OpenFGAServer]:
    registry.reload({"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})
    with OpenFGAServer() as running:
        running.grant(*ANN)
        yield running


async def closed_and_warm(openfga: OpenFGAServer, **options: object) -> AsyncIterator[OpenFGAAuthorizer]:
    """Ann's permission is known, and nothing else is given in an outage."""
    async with gullible(openfga, fail_mode="closed", cache_seconds=60.0, **options) as authorizer:
        assert await asked(authorizer, *ANN)
        yield authorizer


@pytest.mark.parametrize("outage", [False, True])
@pytest.mark.parametrize(
    "question",
    [
        ("user:mallory", "viewer", DOCUMENT),
        ("user:Ann", "viewer", DOCUMENT),
        ("user:ann\u200b", "viewer", DOCUMENT),
        ("user:a\u006en\u0301", "viewer", DOCUMENT),
        ("user:\uff41nn", "viewer", DOCUMENT),
        ("group:ann", "viewer", DOCUMENT),
        ("user:ann", "owner", DOCUMENT),
        ("user:ann", "viewer", "document:Plan"),
        ("user:ann", "viewer", "document:plan2"),
        ("user:ann", "viewer", "document:tenant2/plan"),
        ("user:ann", "viewer", "document:../plan"),
    ],
)
async def test_what_is_known_of_one_question_answers_no_other_users_relations_or_tenants(
    openfga: OpenFGAServer, question: tuple[str, str, str], outage: bool
) -> None:
    async for authorizer in closed_and_warm(openfga):
        if outage:
            openfga.stop()
        assert await asked(authorizer, *ANN)
        assert not await asked(authorizer, *question)
        (decision,) = await authorizer.batch_check([question])
        assert not decision.allowed


@pytest.mark.parametrize("what", MALFORMED)
async def test_in_a_proven_outage_no_malformed_question_is_allowed(openfga: OpenFGAServer, what: str) -> None:
    async with gullible(openfga) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        assert not await asked(authorizer, *MALFORMED[what])


async def test_contextual_tuples_that_give_permission_give_it_to_no_other_question(
    openfga: OpenFGAServer,
) -> None:
    async for authorizer in closed_and_warm(openfga):
        assert (await authorizer.check(*MALLORY, contextual_tuples=[MALLORY])).allowed
        assert not await asked(authorizer, *MALLORY)
        openfga.stop()
        assert not await asked(authorizer, *MALLORY)
        assert not (await authorizer.check(*MALLORY, context={"x": 1})).allowed
        other = ("user:mallory", "viewer", "document:other")
        assert not (await authorizer.check(*other, contextual_tuples=[MALLORY])).allowed


async def test_a_context_that_gives_permission_gives_it_to_no_other_context(openfga: OpenFGAServer) -> None:
    async for authorizer in closed_and_warm(openfga):
        assert (await authorizer.check(*ANN, context={"hour": 9})).allowed
        openfga.stop()
        assert (await authorizer.check(*ANN, context={"hour": 9})).allowed
        for context in ({"hour": 10}, {"hour": "9"}, {"hour": [9]}, {"hour": 9, "x": None}):
            assert not (await authorizer.check(*ANN, context=context)).allowed


@pytest.mark.parametrize(
    "context", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": "\ud800"}, {"x": b"1"}]
)
async def test_a_context_that_is_no_json_lets_nobody_in(
    openfga: OpenFGAServer, context: dict[str, object]
) -> None:
    async for authorizer in closed_and_warm(openfga):
        before = openfga.checks
        with pytest.raises(RequestRejected):
            await authorizer.check(*MALLORY, context=context)
        assert openfga.checks == before


async def test_a_context_nested_without_end_lets_nobody_in(openfga: OpenFGAServer) -> None:
    deep: dict[str, object] = {}
    for _ in range(200_000):
        deep = {"x": deep}
    async for authorizer in closed_and_warm(openfga):
        with pytest.raises(RequestRejected):
            await authorizer.check(*MALLORY, context=deep)
    while deep:
        deep = deep.pop("x")  # type: ignore[assignment]


async def test_the_permission_that_was_taken_away_is_not_given_from_memory(openfga: OpenFGAServer) -> None:
    async for authorizer in closed_and_warm(openfga):
        await authorizer.delete([ANN])
        assert not await asked(authorizer, *ANN)
        openfga.stop()
        assert not await asked(authorizer, *ANN)


async def test_in_a_proven_outage_a_critical_relation_is_denied_to_everybody(openfga: OpenFGAServer) -> None:
    async with gullible(openfga, critical_relations=["owner"], cache_seconds=60.0) as authorizer:
        openfga.grant("user:ann", "owner", DOCUMENT)
        assert await asked(authorizer, "user:ann", "owner")
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        for user in ("user:ann", "user:mallory"):
            assert not await asked(authorizer, user, "owner")
            assert not (await authorizer.check(user, "viewer", DOCUMENT, critical=True)).allowed
            batch = [Question.of(user, "owner", DOCUMENT)] * 60
            assert not any(decision.allowed for decision in await authorizer.batch_check(batch))


async def test_one_answer_of_openfga_ends_what_an_outage_allowed(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        openfga.start()
        async with asyncio.timeout(60):
            while (await authorizer.check(*ANN)).degraded:
                await asyncio.sleep(0.05)
        openfga.fail(503, path="/check")
        for _ in range(6):
            assert not await asked(authorizer)
