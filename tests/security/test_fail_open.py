"""Attempts to be let in by making OpenFGA seem to be down. In each the attacker has no permission, and gets none."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mcp_server_langgraph.auth.openfga import OpenFGAAuthorizer
from mcp_server_langgraph.resilience import Pipeline, registry, timeout
from tests.auth.openfga_checks import DOCUMENT
from tests.security.attackers import MALFORMED, asked, gullible, never_lets_in
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time

CROWD = tuple(f"user:mallory{number}" for number in range(5))


@pytest.fixture
def openfga(fresh_registry: None) -> Iterator[OpenFGAServer]:
    registry.reload({"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})
    with OpenFGAServer() as running:
        running.grant("user:ann", "viewer", DOCUMENT)
        yield running


@pytest.mark.parametrize("seconds", [1e-6, 0.001, 0.02, 0.05])
async def test_a_tiny_deadline_of_ones_own_is_no_outage(openfga: OpenFGAServer, seconds: float) -> None:
    async with gullible(openfga) as authorizer:
        openfga.delay(0.1)
        for _ in range(20):
            with suppress(TimeoutError):
                async with timeout(seconds):
                    assert not await asked(authorizer)
        openfga.heal()
        await never_lets_in(authorizer)
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0


async def test_a_tiny_deadline_passed_on_to_many_tasks_is_no_outage(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.delay(0.1)

        async def hurried(user: str) -> bool:
            async with timeout(0.02):
                return await asyncio.create_task(asked(authorizer, user))

        ends = await asyncio.gather(*(hurried(user) for user in CROWD * 5), return_exceptions=True)
        assert all(end is False or isinstance(end, TimeoutError) for end in ends)
        openfga.heal()
        await never_lets_in(authorizer, *CROWD, rounds=3)


async def test_cancelling_ones_own_calls_is_no_outage(openfga: OpenFGAServer) -> None:
    registry.reload({"OPENFGA_ATTEMPT_TIMEOUT": "20"})
    async with gullible(openfga) as authorizer:
        openfga.delay(30)
        for user in CROWD * 4:
            call = asyncio.create_task(authorizer.check(user, "viewer", DOCUMENT))
            await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        openfga.heal()
        await never_lets_in(authorizer, *CROWD, rounds=3)
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_question_lets_nobody_in_and_proves_nothing(
    openfga: OpenFGAServer, what: str
) -> None:
    async with gullible(openfga) as authorizer:
        for _ in range(6):
            assert not await asked(authorizer, *MALFORMED[what])
        assert registry.breakers()["openfga"].snapshot().consecutive_failures == 0
        assert not await asked(authorizer)
        assert await asked(authorizer, "user:ann")


async def test_flooding_the_bulkhead_is_no_outage(openfga: OpenFGAServer) -> None:
    registry.reload({"OPENFGA_CONCURRENCY_LIMIT": "2", "OPENFGA_BULKHEAD_MAX_QUEUE": "0"})
    async with gullible(openfga) as authorizer:
        openfga.delay(0.05)
        for _ in range(4):
            assert not any(await asyncio.gather(*(asked(authorizer, user) for user in CROWD * 10)))


async def test_flooding_openfga_with_batches_is_no_outage(openfga: OpenFGAServer) -> None:
    registry.reload({"OPENFGA_CONCURRENCY_LIMIT": "2", "OPENFGA_BULKHEAD_MAX_QUEUE": "0"})
    async with gullible(openfga) as authorizer:
        openfga.delay(0.02)
        many = [("user:mallory", "viewer", f"document:{number}") for number in range(200)]
        batches = await asyncio.gather(*(authorizer.batch_check(many) for _ in range(20)))
        assert not any(decision.allowed for batch in batches for decision in batch)
        openfga.heal()
        await never_lets_in(authorizer, rounds=3)


@pytest.mark.parametrize("failing", [500, 503, 529])
async def test_exhausting_the_retry_budget_on_what_only_fails_for_oneself_is_no_outage(
    openfga: OpenFGAServer, failing: int
) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(failing, path="/check")
        await never_lets_in(authorizer, *CROWD, rounds=8)
        openfga.heal()
        assert not await asked(authorizer)


async def test_being_throttled_is_no_outage(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(429)
        for _ in range(30):
            assert not any(await asyncio.gather(*(asked(authorizer, user) for user in CROWD)))
        openfga.heal()
        await never_lets_in(authorizer, rounds=3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 425, 429, 431, 451])
async def test_no_answer_of_openfga_that_blames_the_caller_is_an_outage(
    openfga: OpenFGAServer, status: int
) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(status, {"code": "undefined", "message": "relation 'document#viewer' is odd"})
        await never_lets_in(authorizer, *CROWD, rounds=3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirection_to_who_allows_everything_is_not_followed(
    openfga: OpenFGAServer, status: int
) -> None:
    with OpenFGAServer() as evil:
        evil.grant("user:mallory", "viewer", DOCUMENT)
        evil.fail(200, {"allowed": True})
        async with gullible(openfga) as authorizer:
            openfga.fail(status, {"allowed": True}, location=f"{evil.url}/check")
            await never_lets_in(authorizer, rounds=3)
            assert evil.count() == 0


@pytest.mark.parametrize("status", [100, 204, 206, 418, 500, 503])
async def test_a_yes_under_another_status_than_200_is_no_yes(openfga: OpenFGAServer, status: int) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(status, {"allowed": True} if status != 204 else b"", path="/check")
        await never_lets_in(authorizer, rounds=3)


async def test_an_outage_that_only_oneself_has_met_is_none(openfga: OpenFGAServer) -> None:
    async with gullible(openfga, principals_needed=3) as authorizer:
        openfga.stop()
        for number in range(40):
            assert not await asked(authorizer, target=f"document:{number}")
            assert not await asked(authorizer, relation="owner", target=f"document:{number}")
        await never_lets_in(authorizer, "user:mallory", "user:anonymous", "user:*", "user:", "group:x#member")


async def test_many_accounts_whose_questions_fail_are_no_outage_while_openfga_answers_us(
    openfga: OpenFGAServer,
) -> None:
    async with gullible(openfga, principals_needed=3) as authorizer:
        openfga.hang(path="/check")
        for _ in range(3):
            assert not any(await asyncio.gather(*(asked(authorizer, user) for user in CROWD)))


async def test_a_probe_that_fails_is_no_outage_while_questions_are_answered(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(503, path=f"/stores/{openfga.store_id}")
        assert not await asked(authorizer)
        openfga.fail(503, path="/nowhere")
        await never_lets_in(authorizer)


async def test_a_breaker_that_somebody_opened_is_no_outage(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.fail(503, path="/check")
        while registry.breakers()["openfga"].state != "open":
            assert not await asked(authorizer)
        await never_lets_in(authorizer, *CROWD, rounds=6)
        registry.breakers()["openfga"].force_open()
        await never_lets_in(authorizer, *CROWD, rounds=6)


async def test_keeping_this_process_too_busy_to_hear_openfga_is_no_outage(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        for _ in range(8):
            calls = [asyncio.create_task(asked(authorizer, user)) for user in CROWD]
            for _ in range(12):
                _block(0.12)
                await asyncio.sleep(0)
            assert not any(await asyncio.gather(*calls))


async def test_a_probe_that_is_late_because_we_are_proves_nothing(openfga: OpenFGAServer) -> None:
    async with gullible(openfga) as authorizer:
        openfga.hang()
        probe = asyncio.create_task(authorizer._standby._probe())
        while not probe.done():
            _block(0.15)
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await probe
        assert authorizer._standby._evidence._probe_failed_at is None


async def test_an_openfga_that_never_answered_is_not_out(openfga: OpenFGAServer) -> None:
    openfga.stop()
    authorizer = OpenFGAAuthorizer(
        openfga.url, openfga.store_id, None, Pipeline.standard("openfga"), principals_needed=1
    )
    await never_lets_in(authorizer, *CROWD, "user:ann", rounds=6)
    await authorizer.aclose()


def _block(seconds: float) -> None:
    time.sleep(seconds)
