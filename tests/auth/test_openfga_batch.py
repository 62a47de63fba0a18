"""Batch checks against a stand-in for OpenFGA on a real socket."""

import asyncio

import pytest

from mcp_server_langgraph.auth.openfga import ModelMismatch, Question, RequestRejected
from mcp_server_langgraph.resilience import collect_degradations, registry
from tests.auth.openfga_checks import DOCUMENT, OUTAGES, authorizer_of, break_it, until_allowed_unchecked
from tests.support.eventually import until
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time

ANN = ("user:ann", "viewer", DOCUMENT)
BOB = ("user:bob", "viewer", DOCUMENT)


async def test_decisions_come_in_the_order_of_the_questions(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        decisions = await authorizer.batch_check([BOB, ANN, BOB, ("user:ann", "owner", DOCUMENT)])
    assert [decision.allowed for decision in decisions] == [False, True, False, False]
    assert not any(decision.degraded for decision in decisions)
    assert openfga.count("/batch-check") == 1


@pytest.mark.parametrize(("questions", "requests"), [(0, 0), (1, 1), (50, 1), (51, 2), (120, 3)])
async def test_openfga_is_asked_fifty_questions_at_a_time(
    openfga: OpenFGAServer, questions: int, requests: int
) -> None:
    openfga.grant("user:ann", "viewer", "document:7")
    async with authorizer_of(openfga) as authorizer:
        asked = [("user:ann", "viewer", f"document:{number}") for number in range(questions)]
        decisions = await authorizer.batch_check(asked)
    assert openfga.count("/batch-check") == requests
    assert [number for number, decision in enumerate(decisions) if decision.allowed] == (
        [7] if questions > 7 else []
    )


async def test_the_same_question_is_asked_once(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        decisions = await authorizer.batch_check([ANN] * 200)
    assert all(decision.allowed for decision in decisions)
    assert len(decisions) == 200
    assert openfga.count("/batch-check") == 1


async def test_a_question_that_openfga_refuses_is_denied_alone(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        first, second, third = await authorizer.batch_check([("user:ann", "destroyer", DOCUMENT), ANN, BOB])
    assert (first.allowed, first.degraded) == (False, False)
    assert "relation 'document#destroyer' not found" in first.reason
    assert (second.allowed, third.allowed) == (True, False)


async def test_what_has_no_form_is_refused_before_anything_is_asked(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        with pytest.raises(RequestRejected):
            await authorizer.batch_check([ANN, ("user:a b", "viewer", DOCUMENT)])
    assert openfga.count("/batch-check") == 0


async def test_a_refused_batch_raises(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(400, {"code": "authorization_model_not_found", "message": "gone"}, path="/batch-check")
        with pytest.raises(ModelMismatch, match="gone"):
            await authorizer.batch_check([ANN])


@pytest.mark.parametrize("how", OUTAGES)
async def test_in_an_outage_what_is_known_stands_and_the_rest_is_denied_after_one_request(
    openfga: OpenFGAServer, how: str
) -> None:
    registry.reload({"OPENFGA_RETRY_STOP_AFTER_ATTEMPT": "1"})
    async with authorizer_of(openfga) as authorizer:
        await authorizer.check(*ANN)
        break_it(openfga, how)
        unknown = [("user:ann", "viewer", f"document:{number}") for number in range(120)]
        with collect_degradations() as notes:
            decisions = await authorizer.batch_check([*unknown, ANN])
        assert not any(decision.allowed for decision in decisions[:-1])
        assert all(decision.degraded for decision in decisions)
        assert decisions[-1].allowed
        assert "last known decision" in decisions[-1].reason
    assert [note.service for note in notes] == ["openfga"]
    assert openfga.count("/batch-check") <= 1


async def test_a_proven_outage_allows_what_is_not_critical_of_a_batch(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, critical_relations=["owner"]) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        light, grave = await authorizer.batch_check([BOB, ("user:bob", "owner", DOCUMENT)])
        assert (light.allowed, light.degraded) == (True, True)
        assert (grave.allowed, grave.degraded) == (False, True)
        (forced,) = await authorizer.batch_check([BOB], critical=True)
        assert not forced.allowed


async def test_a_batch_about_many_users_is_one_witness_of_an_outage(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.stop()
        crowd = [(f"user:u{number}", "viewer", DOCUMENT) for number in range(100)]
        for _ in range(10):
            assert not any(decision.allowed for decision in await authorizer.batch_check(crowd))


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"allowed": "yes"},
        {"allowed": 1},
        {"allowed": True, "error": {"internal_error": "internal_error", "message": "x"}},
        {"error": {"internal_error": "internal_error", "message": "datastore"}},
        {"error": "x"},
        None,
    ],
)
async def test_an_item_that_says_nothing_allows_nothing(openfga: OpenFGAServer, item: object) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        await authorizer.check(*ANN)
        openfga.fail(200, {"result": {"0": {"allowed": False}, "1": item}}, path="/batch-check")
        other, unknown = await authorizer.batch_check([BOB, ("user:ann", "owner", DOCUMENT)])
        assert (other.allowed, other.degraded) == (False, False)
        assert (unknown.allowed, unknown.degraded) == (False, True)
        _, known = await authorizer.batch_check([BOB, ANN])
        assert (known.allowed, known.degraded) == (True, True)
        openfga.fail(200, {"result": {"0": item}}, path="/batch-check")
        (nothing,) = await authorizer.batch_check([("user:ann", "owner", DOCUMENT)])
        assert (nothing.allowed, nothing.degraded) == (False, True)


async def test_a_full_bulkhead_denies_the_rest_of_a_batch_though_it_was_known(
    openfga: OpenFGAServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.reload({"OPENFGA_CONCURRENCY_LIMIT": "1", "OPENFGA_BULKHEAD_MAX_QUEUE": "0"})
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        await authorizer.check(*ANN)
        openfga.delay(0.3, times=1)
        held = asyncio.create_task(authorizer.check("user:cid", "viewer", DOCUMENT))
        await until(lambda: openfga.checks == 2)
        decisions = await authorizer.batch_check(
            [ANN, *((f"user:{n}", "viewer", DOCUMENT) for n in range(99))]
        )
        assert not any(decision.allowed for decision in decisions)
        assert {decision.reason for decision in decisions} == {"OpenFGA cannot be asked (BulkheadFull)"}
        await held


async def test_each_question_of_a_batch_may_bring_its_own_contextual_tuples(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        asked = [Question.of(*BOB, contextual_tuples=[BOB]), Question.of(*BOB)]
        decisions = await authorizer.batch_check(asked)
    assert [decision.allowed for decision in decisions] == [True, False]
