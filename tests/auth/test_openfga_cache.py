"""OpenFGA's yes given again without asking: when, for how long, and what makes it void."""

import asyncio

import pytest

from mcp_server_langgraph.auth.openfga import AuthorizationUnavailable, Question
from mcp_server_langgraph.resilience import registry
from tests.auth.openfga_checks import DOCUMENT, authorizer_of
from tests.support.eventually import until
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time

ANN = ("user:ann", "viewer", DOCUMENT)
BOB = ("user:bob", "viewer", DOCUMENT)


async def test_without_the_setting_every_check_is_a_request(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        for _ in range(3):
            assert (await authorizer.check(*ANN)).age is None
    assert openfga.checks == 3


async def test_a_yes_is_given_again_with_its_age_and_a_no_is_asked_again(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        for _ in range(3):
            yes = await authorizer.check(*ANN)
            assert (yes.allowed, yes.degraded) == (True, False)
            assert not (await authorizer.check(*BOB)).allowed
        assert yes.age is not None
        assert 0 <= yes.age < 60
    assert openfga.checks == 1 + 3


async def test_a_yes_that_is_too_old_is_asked_for_again(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=0.05) as authorizer:
        await authorizer.check(*ANN)
        await asyncio.sleep(0.1)
        openfga.revoke(*ANN)
        assert not (await authorizer.check(*ANN)).allowed


async def test_batches_take_from_the_cache_and_add_to_it(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        await authorizer.batch_check([ANN, BOB])
        assert (await authorizer.check(*ANN)).age is not None
        assert [one.allowed for one in await authorizer.batch_check([ANN])] == [True]
    assert openfga.checks == 0
    assert openfga.count("/batch-check") == 1


async def test_our_own_writes_make_every_yes_void(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        assert (await authorizer.check(*ANN)).allowed
        await authorizer.delete([ANN])
        assert not (await authorizer.check(*ANN)).allowed


async def test_a_write_that_nobody_knows_of_makes_every_yes_void(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        await authorizer.check(*ANN)
        openfga.reset(path="/write", times=1)
        with pytest.raises(AuthorizationUnavailable):
            await authorizer.delete([ANN])
        await authorizer.check(*ANN)
    assert openfga.checks == 2


async def test_a_check_that_was_under_way_during_a_write_is_not_kept(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        openfga.delay(0.3, path="/check", times=1)
        under_way = asyncio.create_task(authorizer.check(*ANN))
        await until(lambda: openfga.checks == 1)
        await authorizer.write([("user:cid", "viewer", DOCUMENT)])
        assert (await under_way).allowed
        openfga.revoke(*ANN)
        assert not (await authorizer.check(*ANN)).allowed


@pytest.mark.parametrize("named", ["viewer", "document#viewer"])
async def test_a_critical_relation_is_asked_for_each_time_and_past_openfgas_own_caches(
    openfga: OpenFGAServer, named: str
) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0, critical_relations=[named]) as authorizer:
        for _ in range(2):
            assert (await authorizer.check(*ANN)).age is None
            await authorizer.batch_check([ANN])
        openfga.stop()
        assert not (await authorizer.check(*ANN)).allowed
    assert (openfga.checks, openfga.count("/batch-check")) == (2, 2)
    assert {body.get("consistency") for body in openfga.asked} == {"HIGHER_CONSISTENCY"}


@pytest.mark.parametrize("named", ["folder#viewer", "owner", "document"])
async def test_what_is_critical_elsewhere_is_not_critical_here(openfga: OpenFGAServer, named: str) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        authorizer._checks._critical = frozenset([named])
        for _ in range(2):
            await authorizer.check(*ANN)
        await authorizer.check(*BOB)
    assert openfga.checks == 2
    assert all("consistency" not in body for body in openfga.asked)


async def test_a_call_that_says_critical_is_not_answered_from_the_cache(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        await authorizer.check(*ANN)
        openfga.revoke(*ANN)
        assert not (await authorizer.check(*ANN, critical=True)).allowed
        # And what it found out is what is known from now on.
        assert not (await authorizer.check(*ANN)).allowed


@pytest.mark.parametrize("circumstances", [{"contextual_tuples": [BOB]}, {"context": {"hour": 9}}])
async def test_a_yes_under_other_circumstances_is_another_yes(
    openfga: OpenFGAServer, circumstances: dict[str, object]
) -> None:
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        await authorizer.check(*BOB, contextual_tuples=[BOB])
        await authorizer.check(*ANN, **circumstances)
        assert not (await authorizer.check(*BOB)).allowed
        await authorizer.check(*ANN)
    assert openfga.checks == 4


def test_the_order_of_circumstances_makes_no_other_question() -> None:
    one = Question.of(*ANN, [ANN, BOB], {"a": 1, "b": [2]})
    assert one == Question.of(*ANN, [BOB, ANN, BOB], {"b": [2], "a": 1})
    assert hash(one) == hash(Question.of(*ANN, [BOB, ANN], {"b": [2], "a": 1}))
    assert one != Question.of(*ANN, [ANN, BOB], {"a": 1, "b": 2})
    assert one != Question.of(*ANN, [ANN], {"a": 1, "b": [2]})


async def test_with_the_switch_off_nothing_is_cached(openfga: OpenFGAServer) -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    async with authorizer_of(openfga, cache_seconds=60.0) as authorizer:
        await authorizer.check(*ANN)
        await authorizer.check(*ANN)
    assert openfga.checks == 2
