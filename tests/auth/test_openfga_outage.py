"""Permission checks while OpenFGA is out: what stands, what is allowed unchecked, and when it decides again."""

import asyncio

import pytest

from mcp_server_langgraph.resilience import collect_degradations, registry
from tests.auth.openfga_checks import (
    DOCUMENT,
    OUTAGES,
    authorizer_of,
    break_it,
    never_allowed,
    until_allowed_unchecked,
)
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("how", OUTAGES)
async def test_in_an_outage_the_last_known_decision_stands(openfga: OpenFGAServer, how: str) -> None:
    async with authorizer_of(openfga) as authorizer:
        await authorizer.check("user:ann", "viewer", DOCUMENT)
        await authorizer.check("user:bob", "viewer", DOCUMENT)
        break_it(openfga, how)
        began = asyncio.get_running_loop().time()
        with collect_degradations() as notes:
            allowed = await authorizer.check("user:ann", "viewer", DOCUMENT)
        assert asyncio.get_running_loop().time() - began < 0.7
        denied = await authorizer.check("user:bob", "viewer", DOCUMENT)
    assert (allowed.allowed, allowed.degraded) == (True, True)
    assert allowed.age is not None
    assert 0 < allowed.age < 10
    assert "last known decision" in allowed.reason
    assert (denied.allowed, denied.degraded) == (False, True)
    assert [(note.service, note.source) for note in notes] == [("openfga", "last known decision")]


async def test_a_decision_that_is_too_old_does_not_stand(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, decision_max_age=0.05) as authorizer:
        await authorizer.check("user:ann", "viewer", DOCUMENT)
        openfga.stop()
        await asyncio.sleep(0.1)
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


@pytest.mark.parametrize("how", OUTAGES)
async def test_a_proven_outage_allows_what_is_not_critical_and_warns_loudly(
    openfga: OpenFGAServer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with authorizer_of(openfga) as authorizer:
        break_it(openfga, how)
        await until_allowed_unchecked(authorizer)
        with collect_degradations() as notes:
            decision = await authorizer.check("user:u0", "viewer", DOCUMENT)
        assert (decision.allowed, decision.degraded) == (True, True)
        assert "not checked" in decision.reason
        assert [note.source for note in notes] == ["fail-open: permission not checked"]
        assert "ALLOWED WITHOUT A CHECK" in caplog.text
        critical = await authorizer.check("user:u0", "viewer", DOCUMENT, critical=True)
        assert (critical.allowed, critical.degraded) == (False, True)


async def test_a_critical_action_is_denied_even_if_it_was_allowed_a_moment_ago(
    openfga: OpenFGAServer,
) -> None:
    async with authorizer_of(openfga) as authorizer:
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT, critical=True)).allowed
        openfga.stop()
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT, critical=True)).allowed


async def test_one_user_alone_never_proves_an_outage(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.stop()
        await never_allowed(authorizer, "user:ann")


async def test_failing_closed_allows_nothing_unchecked(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, fail_mode="closed", principals_needed=1) as authorizer:
        await authorizer.check("user:ann", "viewer", DOCUMENT)
        openfga.stop()
        await never_allowed(authorizer, "user:bob")
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


@pytest.mark.parametrize("user", ["user:anonymous", "user:*"])
async def test_nobody_is_allowed_unchecked_who_is_not_authenticated(
    openfga: OpenFGAServer, user: str
) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        assert not (await authorizer.check(user, "viewer", DOCUMENT)).allowed


async def test_failing_checks_prove_no_outage_while_our_own_probe_is_answered(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(503, path="/check")
        await never_allowed(authorizer, "user:ann")
        assert openfga.count(f"GET /stores/{openfga.store_id}") <= 3


async def test_when_openfga_is_back_it_decides_again_before_the_breaker_would_let_it(
    openfga: OpenFGAServer,
) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        while registry.breakers()["openfga"].state != "open":
            await authorizer.check("user:u0", "viewer", DOCUMENT)
        openfga.start()
        async with asyncio.timeout(8):
            while (await authorizer.check("user:u0", "viewer", DOCUMENT)).degraded:
                await asyncio.sleep(0.05)
        assert not (await authorizer.check("user:u0", "viewer", DOCUMENT)).allowed
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


async def test_retry_after_of_an_outage_is_passed_on(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.fail(503, retry_after="30")
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).retry_after == 30.0


async def test_with_the_switch_off_openfga_denies_when_it_cannot_be_asked(openfga: OpenFGAServer) -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
        openfga.stop()
        for number in range(10):
            decision = await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
            assert (decision.allowed, decision.degraded) == (False, True)
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
