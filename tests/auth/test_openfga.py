"""Permission checks against a stand-in for OpenFGA on a real socket that fails in every way."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_server_langgraph.auth.openfga import (
    AuthorizationUnavailable,
    Decision,
    OpenFGAAuthorizer,
    RequestRejected,
)
from mcp_server_langgraph.resilience import Pipeline, TimedOut, collect_degradations, registry, timeout
from tests.support.openfga_server import OpenFGAServer

pytestmark = pytest.mark.real_time

DOCUMENT = "document:plan"
OUTAGES = ["stop", "hang", "reset", "garbage", "noise", "fail_503", "fail_500"]


@pytest.fixture
def openfga() -> Iterator[OpenFGAServer]:
    with OpenFGAServer() as running:
        running.grant("user:ann", "viewer", DOCUMENT)
        yield running


@pytest.fixture(autouse=True)
def quick_retries(fresh_registry: None) -> None:
    registry.reload({"RETRY_WAIT_EXPONENTIAL_MULTIPLIER": "0.001"})


@asynccontextmanager
async def authorizer_of(openfga: OpenFGAServer, **options: Any) -> AsyncIterator[OpenFGAAuthorizer]:
    pipeline = Pipeline.standard("openfga")
    authorizer = OpenFGAAuthorizer(openfga.url, openfga.store_id, openfga.model_id, pipeline, **options)
    try:
        yield authorizer
    finally:
        await authorizer.aclose()


def break_it(openfga: OpenFGAServer, how: str) -> None:
    if how.startswith("fail_"):
        openfga.fail(
            int(how.removeprefix("fail_")), {"code": "internal_error", "message": "Internal Server Error"}
        )
    else:
        getattr(openfga, how)()


async def until_allowed_unchecked(authorizer: OpenFGAAuthorizer, users: int = 3) -> None:
    """Ask for so many users, again and again, until one is let through."""
    async with asyncio.timeout(10):
        while True:
            for number in range(users):
                decision = await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
                if decision.allowed:
                    assert decision.degraded
                    return
            await asyncio.sleep(0.02)


async def never_allowed(authorizer: OpenFGAAuthorizer, user: str, **options: Any) -> None:
    """Ask for half a second, and twenty times at least, and see it denied each time."""
    give_up = time.monotonic() + 0.5
    asked = 0
    while asked < 20 or time.monotonic() < give_up:
        assert not (await authorizer.check(user, "viewer", DOCUMENT, **options)).allowed
        asked += 1
        await asyncio.sleep(0.02)


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


@pytest.mark.parametrize("how", OUTAGES)
async def test_in_an_outage_the_last_known_decision_stands(openfga: OpenFGAServer, how: str) -> None:
    async with authorizer_of(openfga) as authorizer:
        await authorizer.check("user:ann", "viewer", DOCUMENT)
        await authorizer.check("user:bob", "viewer", DOCUMENT)
        break_it(openfga, how)
        began = time.perf_counter()
        with collect_degradations() as notes:
            allowed = await authorizer.check("user:ann", "viewer", DOCUMENT)
        assert time.perf_counter() - began < 0.7
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
        decisions = await asyncio.gather(
            *(authorizer.check(f"user:u{number}", "viewer", DOCUMENT) for number in range(20))
        )
        openfga.heal()
        assert not any(decision.allowed for decision in decisions)
        assert sum("BulkheadFull" in decision.reason for decision in decisions) == 19
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
    assert openfga.count("GET") == 0


async def test_too_many_requests_is_a_denial_that_says_when_to_ask_again(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(429, {"code": "rate_limit_exceeded", "message": "Rate Limit Exceeded"}, retry_after="7")
        for _ in range(10):
            decision = await authorizer.check("user:ann", "viewer", DOCUMENT)
            assert (decision.allowed, decision.degraded, decision.retry_after) == (False, True, 7.0)
        assert registry.breakers()["openfga"].state == "closed"
    assert openfga.checks == 10


async def test_retry_after_of_an_outage_is_passed_on(openfga: OpenFGAServer) -> None:
    async with authorizer_of(openfga) as authorizer:
        openfga.fail(503, retry_after="30")
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).retry_after == 30.0


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

        async def broken(*_: object) -> bool:
            raise bug("a bug")

        monkeypatch.setattr(authorizer._api, "check", broken)
        monkeypatch.setattr(authorizer._api, "probe", broken)
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

        monkeypatch.setattr(authorizer._api, "probe", broken)
        openfga.stop()
        await never_allowed(authorizer, "user:ann")


@pytest.mark.parametrize("reply", [{}, {"allowed": "yes"}, {"allowed": 1}, {"allowed": None}, [True]])
async def test_a_reply_that_says_nothing_allows_nothing(openfga: OpenFGAServer, reply: object) -> None:
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        openfga.fail(200, reply, path="/check")
        await never_allowed(authorizer, "user:ann")


async def test_with_the_switch_off_openfga_denies_when_it_cannot_be_asked(openfga: OpenFGAServer) -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    async with authorizer_of(openfga, principals_needed=1) as authorizer:
        assert (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed
        openfga.stop()
        for number in range(10):
            decision = await authorizer.check(f"user:u{number}", "viewer", DOCUMENT)
            assert (decision.allowed, decision.degraded) == (False, True)
        assert not (await authorizer.check("user:ann", "viewer", DOCUMENT)).allowed


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
