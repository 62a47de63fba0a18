"""What is no outage never allows anything unchecked: deadlines, crowds, refusals, bugs and nonsense."""

import asyncio

import pytest

from mcp_server_langgraph.auth.openfga import Decision
from mcp_server_langgraph.resilience import TimedOut, registry, timeout
from tests.auth.openfga_checks import DOCUMENT, authorizer_of, never_allowed, until_allowed_unchecked
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time


async def test_a_callers_own_deadline_allows_nothing_and_counts_for_nothing(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.delay(0.3)
        for number in range(6):
            with pytest.raises(TimedOut):
                async with timeout(0.02):
                    await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
        openfga.heal()
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0
        assert not (await authorizer.check("user:bob", "viewer", DOCUMENT)).degraded


async def test_a_callers_own_deadline_in_a_child_task_allows_nothing(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.stop()
        await until_allowed_unchecked(authorizer)
        openfga.start()
        registry.breakers()["openfga"].reset()
        openfga.hang(path="/check")
        children: list[asyncio.Task[Decision]] = []

        async def hurried() -> None:
            async with timeout(0.05):
                children.append(asyncio.create_task(authorizer.check("user:bob", "viewer", DOCUMENT)))
                await asyncio.sleep(1)

        with pytest.raises(TimedOut):
            await hurried()
        with pytest.raises(TimedOut) as caught:
            await children[0]
        assert caught.value.clock == "inherited"


async def test_too_many_checks_at_once_are_denied_and_prove_nothing(openfga: OpenFGAServer) -> None:
    registry.reload({"OPENFGA_CONCURRENCY_LIMIT": "1", "OPENFGA_BULKHEAD_MAX_QUEUE": "0"})
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.delay(0.1)
        probes = openfga.count("GET")
        decisions = await asyncio.gather(
            *(authorizer.check(f"user:u{number}", "viewer", DOCUMENT) for number in range(20))
        )
        openfga.heal()
        assert not any(decision.allowed for decision in decisions)
        assert sum("BulkheadFull" in decision.reason for decision in decisions) == 19
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
    assert openfga.count("GET") == probes


async def test_too_many_requests_is_a_denial_that_says_when_to_ask_again(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(429, {"code": "rate_limit_exceeded", "message": "Rate Limit Exceeded"}, retry_after="7")
        for _ in range(10):
            decision = await authorizer.check("user:ann", "viewer", DOCUMENT)
            assert (decision.allowed, decision.degraded, decision.retry_after) == (False, True, 7.0)
        assert registry.breakers()["openfga"].state == "closed"
    assert openfga.checks == 10


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_server_that_openfga_does_not_know_allows_nothing(
    openfga: OpenFGAServer, status: int
) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(status, {"code": "unauthenticated", "message": "unauthenticated"})
        await never_allowed(authorizer, "user:ann")
        assert registry.breakers()["openfga"].state == "closed"


@pytest.mark.parametrize("bug", [TypeError, KeyError, AttributeError, ZeroDivisionError])
async def test_a_bug_in_the_check_never_grants_access(
    openfga: OpenFGAServer, bug: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        await authorizer.check("user:ann", "viewer", DOCUMENT)

        async def broken(*_: object, **__: object) -> bool:
            raise bug("a bug")

        monkeypatch.setattr(authorizer._checks._api, "check", broken)
        monkeypatch.setattr(authorizer._checks._api, "probe", broken)
        for number in range(10):
            with pytest.raises(bug):
                await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
        with pytest.raises(bug):
            await authorizer.check("user:ann", "viewer", DOCUMENT)


async def test_a_bug_in_our_probe_proves_no_outage(
    openfga: OpenFGAServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:

        async def broken() -> None:
            raise TypeError("a bug")

        monkeypatch.setattr(authorizer._checks._api, "probe", broken)
        openfga.stop()
        await never_allowed(authorizer, "user:ann")


@pytest.mark.parametrize("reply", [{}, {"allowed": "yes"}, {"allowed": 1}, {"allowed": None}, [True]])
async def test_a_reply_that_says_nothing_allows_nothing(openfga: OpenFGAServer, reply: object) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(200, reply, path="/check")
        await never_allowed(authorizer, "user:ann")
