"""The cache of signing keys, in virtual time, with a provider that does what the test says."""

import asyncio

import jwt
import pytest

from mcp_server_langgraph.auth._key_cache import KeyCache, UnknownKey
from mcp_server_langgraph.auth.identity import IdentityUnavailable
from tests.support.keycloak_server import SigningKey

SOFT, HARD, UNKNOWN = 300.0, 3600.0, 30.0
FIRST, SECOND = SigningKey("ES256"), SigningKey("ES256")


class Provider:
    """Publishes keys; `failure` is raised instead while it is set, and every answer takes `seconds`."""

    def __init__(self) -> None:
        self.keys = [FIRST]
        self.failure: Exception | None = None
        self.seconds = 0.01
        self.fetches = 0

    async def __call__(self) -> dict[str, jwt.PyJWK]:
        self.fetches += 1
        await asyncio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return {key.kid: jwt.PyJWK(key.jwk()) for key in self.keys}


def cache_of(provider: Provider) -> KeyCache:
    return KeyCache(provider, soft_age=SOFT, hard_age=HARD, unknown_interval=UNKNOWN, patience=0.5)


async def test_keys_are_fetched_once_and_then_known() -> None:
    provider = Provider()
    cache = cache_of(provider)
    for _ in range(5):
        assert (await cache.find(FIRST.kid)).key_id == FIRST.kid
    assert provider.fetches == 1


async def test_many_callers_share_one_first_fetch() -> None:
    provider = Provider()
    cache = cache_of(provider)
    found = await asyncio.gather(*(cache.find(FIRST.kid) for _ in range(50)))
    assert {key.key_id for key in found} == {FIRST.kid}
    assert provider.fetches == 1


async def test_aging_keys_are_used_while_one_refresh_runs_in_the_background() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    await asyncio.sleep(SOFT)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(cache.find(FIRST.kid) for _ in range(50)))
    assert loop.time() == began
    await asyncio.sleep(1)
    assert provider.fetches == 2
    assert cache.age < SOFT


async def test_young_keys_cost_no_request() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    await asyncio.sleep(SOFT - 1)
    await cache.find(FIRST.kid)
    await asyncio.sleep(1)
    assert provider.fetches == 1


async def test_a_failed_refresh_drops_no_key() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.failure = ConnectionError("down")
    await asyncio.sleep(SOFT)
    await cache.find(FIRST.kid)
    await asyncio.sleep(1)
    assert (await cache.find(FIRST.kid)).key_id == FIRST.kid
    assert cache.failure is provider.failure


async def test_a_good_refresh_forgets_the_failure() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.failure = ConnectionError("down")
    await asyncio.sleep(SOFT)
    await cache.find(FIRST.kid)
    await asyncio.sleep(1.1)
    provider.failure = None
    await cache.find(FIRST.kid)
    await asyncio.sleep(0.1)
    assert cache.failure is None


async def test_failed_refreshes_are_repeated_with_growing_pauses() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.failure = ConnectionError("down")
    await asyncio.sleep(SOFT)
    before = provider.fetches
    for _ in range(1200):
        await cache.find(FIRST.kid)
        await asyncio.sleep(0.1)
    # 1 + 2 + 4 + 8 + 16 + 30 + 30 + 30 = 121 s
    assert provider.fetches - before == 8


async def test_keys_past_their_hard_age_are_not_trusted() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.failure = ConnectionError("down")
    await asyncio.sleep(HARD)
    with pytest.raises(IdentityUnavailable) as caught:
        await cache.find(FIRST.kid)
    assert caught.value.retry_after == pytest.approx(1.0)
    assert caught.value.__cause__ is provider.failure


async def test_without_keys_a_caller_waits_no_longer_than_its_patience() -> None:
    provider = Provider()
    provider.seconds = 100.0
    cache = cache_of(provider)
    loop = asyncio.get_running_loop()
    with pytest.raises(IdentityUnavailable):
        await cache.find(FIRST.kid)
    assert loop.time() == pytest.approx(0.5)
    await asyncio.sleep(100)
    assert (await cache.find(FIRST.kid)).key_id == FIRST.kid
    assert provider.fetches == 1


async def test_a_caller_that_goes_away_does_not_take_the_refresh_with_it() -> None:
    provider = Provider()
    provider.seconds = 0.2
    cache = cache_of(provider)
    caller = asyncio.create_task(cache.find(FIRST.kid))
    other = asyncio.create_task(cache.find(FIRST.kid))
    await asyncio.sleep(0.1)
    caller.cancel()
    assert (await other).key_id == FIRST.kid
    assert provider.fetches == 1


async def test_an_unknown_id_is_looked_for_once() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    await asyncio.sleep(UNKNOWN)
    provider.keys = [SECOND, FIRST]
    assert (await cache.find(SECOND.kid)).key_id == SECOND.kid
    assert provider.fetches == 2


async def test_made_up_ids_cost_the_provider_one_request_in_each_interval() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)

    async def attack(number: int) -> None:
        await asyncio.sleep(number * 0.1)
        with pytest.raises(UnknownKey):
            await cache.find(f"made-up-{number}")

    await asyncio.gather(*(attack(number) for number in range(900)))
    # 90 seconds: at 30 and 60; the fetch at 0 counts as the first.
    assert provider.fetches == 3
    assert (await cache.find(FIRST.kid)).key_id == FIRST.kid
    assert cache.failure is None


async def test_an_unknown_id_in_an_outage_is_nobodys_fault() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    await asyncio.sleep(UNKNOWN)
    provider.failure = ConnectionError("down")
    for _ in range(3):
        with pytest.raises(IdentityUnavailable):
            await cache.find("perhaps-new")
    assert provider.fetches == 2


async def test_a_key_that_was_withdrawn_is_not_accepted_after_the_refresh() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.keys = [SECOND]
    await asyncio.sleep(SOFT)
    await cache.find(FIRST.kid)
    await asyncio.sleep(1)
    with pytest.raises(UnknownKey):
        await cache.find(FIRST.kid)


async def test_a_mistake_in_the_fetch_keeps_the_keys_too() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.failure = TypeError("a bug")
    await asyncio.sleep(SOFT)
    await cache.find(FIRST.kid)
    await asyncio.sleep(1)
    assert (await cache.find(FIRST.kid)).key_id == FIRST.kid


@pytest.mark.parametrize("ages", [(0.0, 10.0), (20.0, 10.0), (-1.0, 10.0)])
def test_ages_that_cannot_be_are_refused(ages: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="soft_age"):
        KeyCache(Provider(), soft_age=ages[0], hard_age=ages[1], unknown_interval=1.0, patience=1.0)


async def test_all_who_come_with_a_new_key_wait_for_the_refresh_that_one_of_them_began() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.keys, provider.seconds = [FIRST, SECOND], 0.3
    await asyncio.sleep(UNKNOWN)
    one = asyncio.create_task(cache.find(SECOND.kid))
    await asyncio.sleep(0.1)
    other = asyncio.create_task(cache.find(SECOND.kid))
    assert (await one).key_id == (await other).key_id == SECOND.kid
    assert provider.fetches == 2


async def test_a_new_key_whose_refresh_takes_too_long_is_not_known_rather_than_wrong() -> None:
    provider = Provider()
    cache = cache_of(provider)
    await cache.find(FIRST.kid)
    provider.keys, provider.seconds = [FIRST, SECOND], 10.0
    await asyncio.sleep(UNKNOWN)
    for _ in range(2):
        with pytest.raises(IdentityUnavailable):
            await cache.find(SECOND.kid)
    await asyncio.sleep(10)
    assert (await cache.find(SECOND.kid)).key_id == SECOND.kid
