"""Whether a token was revoked, in virtual time, with a Keycloak that does what the test says."""

import asyncio
import logging

import pytest

from mcp_server_langgraph.auth._grants import Introspection
from mcp_server_langgraph.auth._revocation import Remembered, RevocationCheck
from mcp_server_langgraph.auth.identity import ClientRefused, IdentityUnavailable, InvalidToken
from mcp_server_langgraph.resilience import BulkheadFull, CircuitOpen, TimedOut, timeout

MAX_AGE = 15.0


class Keycloak:
    """Knows which tokens are revoked; `failure` is raised instead while it is set. Every answer takes `seconds`."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.failure: Exception | None = None
        self.seconds = 0.01
        self.asked: list[str] = []

    async def __call__(self, token: str) -> Introspection:
        self.asked.append(token)
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return Introspection(token not in self.revoked)


def check_of(keycloak: Keycloak, limit: int = 100) -> RevocationCheck:
    return RevocationCheck(keycloak, max_age=MAX_AGE, patience=0.5, limit=limit)


async def ask(check: RevocationCheck, token: str = "a.b.c") -> Exception | None:
    return await check.unknown(token, token.rpartition(".")[0])


def down(cause: Exception | None = None) -> IdentityUnavailable:
    error = IdentityUnavailable("down")
    error.__cause__ = cause or ConnectionError()
    return error


async def test_a_token_is_asked_about_once_in_its_time() -> None:
    keycloak = Keycloak()
    check = check_of(keycloak)
    for _ in range(5):
        assert await ask(check) is None
    assert len(keycloak.asked) == 1
    await asyncio.sleep(MAX_AGE)
    assert await ask(check) is None
    assert len(keycloak.asked) == 2


async def test_many_callers_share_one_question() -> None:
    keycloak = Keycloak()
    check = check_of(keycloak)
    assert await asyncio.gather(*(ask(check) for _ in range(50))) == [None] * 50
    assert len(keycloak.asked) == 1


async def test_each_token_is_asked_about_for_itself() -> None:
    keycloak = Keycloak()
    keycloak.revoked.add("a.bob.c")
    check = check_of(keycloak)
    assert await ask(check, "a.alice.c") is None
    with pytest.raises(InvalidToken):
        await ask(check, "a.bob.c")


async def test_a_revoked_token_is_refused_once_its_last_confirmation_is_old() -> None:
    keycloak = Keycloak()
    check = check_of(keycloak)
    await ask(check)
    keycloak.revoked.add("a.b.c")
    await asyncio.sleep(MAX_AGE)
    with pytest.raises(InvalidToken, match="not active"):
        await ask(check)


async def test_a_revoked_token_stays_refused_when_keycloak_goes_away() -> None:
    keycloak = Keycloak()
    keycloak.revoked.add("a.b.c")
    check = check_of(keycloak)
    with pytest.raises(InvalidToken):
        await ask(check)
    keycloak.failure = down()
    for _ in range(5):
        await asyncio.sleep(MAX_AGE)
        with pytest.raises(InvalidToken):
            await ask(check)
    assert len(keycloak.asked) == 1


async def test_another_signature_does_not_make_it_another_token() -> None:
    keycloak = Keycloak()
    keycloak.revoked.add("a.b.c")
    check = check_of(keycloak)
    for token in ("a.b.c", "a.b.d"):
        with pytest.raises(InvalidToken):
            await ask(check, token)


async def test_good_tokens_do_not_make_a_revoked_one_forgotten() -> None:
    keycloak = Keycloak()
    keycloak.revoked.add("a.b.c")
    check = check_of(keycloak, limit=3)
    with pytest.raises(InvalidToken):
        await ask(check)
    for number in range(10):
        await ask(check, f"a.{number}.c")
    keycloak.failure = down()
    with pytest.raises(InvalidToken):
        await ask(check)


async def test_in_an_outage_it_is_not_known_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keycloak = Keycloak()
    keycloak.failure = down()
    check = check_of(keycloak)
    for _ in range(5):
        assert await ask(check) is keycloak.failure
        await asyncio.sleep(0.1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_while_keycloak_hangs_only_the_first_callers_wait_and_not_for_long() -> None:
    keycloak = Keycloak()
    keycloak.seconds = 1000.0
    check = check_of(keycloak)
    loop = asyncio.get_running_loop()
    assert isinstance(await ask(check), IdentityUnavailable)
    for number in range(50):
        assert isinstance(await ask(check, f"a.{number}.c"), IdentityUnavailable)
    assert loop.time() == pytest.approx(0.5)
    await check.aclose()


async def test_the_first_answer_ends_an_outage() -> None:
    keycloak = Keycloak()
    keycloak.failure = down()
    check = check_of(keycloak)
    await ask(check)
    keycloak.failure = None
    assert await ask(check) is not None
    await asyncio.sleep(0.1)
    assert await ask(check) is None
    assert await ask(check, "a.other.c") is None


async def test_a_caller_gains_nothing_by_filling_our_own_bulkhead() -> None:
    keycloak = Keycloak()
    keycloak.failure = down(BulkheadFull("keycloak"))
    check = check_of(keycloak)
    for _ in range(3):
        with pytest.raises(IdentityUnavailable) as caught:
            await ask(check)
        assert caught.value.retry_after == 1.0


async def test_an_open_circuit_is_an_outage() -> None:
    keycloak = Keycloak()
    keycloak.failure = down(CircuitOpen("keycloak"))
    assert await ask(check_of(keycloak)) is keycloak.failure


async def test_a_wrong_secret_is_an_error_in_the_log_and_limits_everybody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keycloak = Keycloak()
    keycloak.failure = ClientRefused("Keycloak refuses this server: invalid_client")
    assert await ask(check_of(keycloak)) is keycloak.failure
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_caller_that_goes_away_does_not_take_the_question_with_it() -> None:
    keycloak = Keycloak()
    keycloak.seconds = 0.2
    check = check_of(keycloak)
    caller, other = asyncio.create_task(ask(check)), asyncio.create_task(ask(check))
    await asyncio.sleep(0.1)
    caller.cancel()
    assert await other is None
    assert len(keycloak.asked) == 1


async def test_a_callers_own_deadline_is_no_outage() -> None:
    keycloak = Keycloak()
    keycloak.seconds = 0.2
    check = check_of(keycloak)
    with pytest.raises(TimedOut):
        async with timeout(0.1):
            await ask(check)
    assert await ask(check) is None


async def test_a_bug_is_no_confirmation() -> None:
    keycloak = Keycloak()
    keycloak.failure = KeyError("bug")
    assert isinstance(await ask(check_of(keycloak)), KeyError)


async def test_closing_stops_the_questions() -> None:
    keycloak = Keycloak()
    keycloak.seconds = 1000.0
    check = check_of(keycloak)
    await ask(check)
    await check.aclose()
    await check.aclose()


def test_only_so_much_is_remembered() -> None:
    remembered = Remembered(2)
    for moment, key in enumerate((b"a", b"b", b"a", b"c")):
        remembered.add(key, float(moment))
    assert [remembered.age(key, 10.0) for key in (b"a", b"b", b"c")] == [8.0, float("inf"), 7.0]
