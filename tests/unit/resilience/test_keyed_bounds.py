"""How many keys there may be: who is forgotten, who never is, what the rest share, and what is told of them all."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    Cooldown,
    Event,
    Keyed,
    Pipeline,
    Quota,
    RateLimit,
    RateLimited,
    Settings,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience import config as layer_config
from mcp_server_langgraph.resilience.keyed import SHOWN_KEYS
from mcp_server_langgraph.resilience.testing import run, settle


def keyed_breakers(max_keys: int, max_labels: int | None = None) -> tuple[Keyed, Pipeline]:
    keyed = Keyed(
        lambda key: CircuitBreaker(fail_max=1, timeout=60),
        key=lambda key, *rest: key,
        max_keys=max_keys,
        max_labels=max_labels,
    )
    return keyed, Pipeline("search", keyed)


async def ask(pipeline: Pipeline, key: object, outcome: str = "ok") -> str:
    """How a call ended: ok, failed, refused."""

    async def answer(key: object, outcome: str) -> str:
        if outcome == "failed":
            raise ConnectionError
        return outcome

    try:
        return await pipeline.call(answer, key, outcome)
    except ConnectionError:
        return "failed"
    except CircuitOpen:
        return "refused"


def numbers(name: str) -> dict[tuple[str, ...], object]:
    [metric] = [metric for metric in registry.metrics() if metric.name == name]
    return dict(metric.samples)


async def test_keys_from_outside_do_not_grow_memory() -> None:
    keyed, pipeline = keyed_breakers(10)
    for number in range(500):
        assert await ask(pipeline, f"/user/{number}") == "ok"

    shown = keyed.snapshot()
    assert (shown.keys, shown.evictions, shown.overflow_calls) == (10, 490, 0)
    assert keyed.get("/user/499") is not None
    assert keyed.get("/user/489") is None


async def test_an_open_breaker_is_not_forgotten_while_something_idle_can_go() -> None:
    _, pipeline = keyed_breakers(3)
    await ask(pipeline, "dead", "failed")
    for number in range(50):
        await ask(pipeline, number)

    assert await ask(pipeline, "dead") == "refused"


async def test_a_new_key_does_not_win_new_permits_for_an_old_one() -> None:
    keyed = Keyed(lambda tenant: RateLimit(1, per=10), key=lambda key, *rest: key, max_keys=2)
    pipeline = Pipeline("search", keyed)
    assert await ask(pipeline, "greedy") == "ok"
    await ask(pipeline, "another")
    assert await ask(pipeline, "third") == "ok"
    with pytest.raises(RateLimited):
        await ask(pipeline, "fourth")  # shares the overflow's one permit with the third
    with pytest.raises(RateLimited):
        await ask(pipeline, "greedy")

    await asyncio.sleep(10)
    assert await ask(pipeline, "third") == "ok"
    assert keyed.get("third") is not None


def test_policies_tell_until_when_they_must_not_be_lost() -> None:
    async def tell() -> None:
        now = asyncio.get_running_loop().time()
        limit, cooldown, quota = RateLimit(1, per=10), Cooldown(jitter=0.5), Quota()
        for fresh in (limit, cooldown, quota, Bulkhead(1)):
            assert fresh.matters_until(now) == -math.inf
        limit.reserve().keep()
        cooldown.start(8)
        told = {"limit": "1", "remaining": "0", "reset": "5s"}
        quota.observe({f"x-ratelimit-{name}-requests": value for name, value in told.items()})
        assert limit.matters_until(now) == now + 10
        assert cooldown.matters_until(now) == now + 12
        assert quota.matters_until(now) == pytest.approx(now + 5)

    run(tell())


async def test_a_breaker_that_an_operator_set_is_kept() -> None:
    keyed, pipeline = keyed_breakers(2)
    await ask(pipeline, "watched")
    breaker = keyed.get("watched")
    assert isinstance(breaker, CircuitBreaker)
    breaker.force_open()
    for number in range(5):
        await ask(pipeline, number)
    assert await ask(pipeline, "watched") == "refused"


async def test_what_an_operator_gave_up_can_be_forgotten_after_a_reload() -> None:
    keyed, pipeline = keyed_breakers(1)
    await ask(pipeline, "watched")
    breaker = keyed.get("watched")
    assert isinstance(breaker, CircuitBreaker)
    breaker.force_open()
    await ask(pipeline, "new")
    breaker.reset()

    registry.reload({})
    await ask(pipeline, "new")
    assert keyed.get("new") is not None


async def test_a_call_in_flight_keeps_its_key() -> None:
    keyed = Keyed(lambda key: Bulkhead(1, max_queue=0), key=lambda key: key, max_keys=2)
    pipeline = Pipeline("search", keyed)
    gate = asyncio.Event()

    async def hang(key: str) -> None:
        await gate.wait()

    async def answer(key: object) -> object:
        return key

    task = asyncio.ensure_future(pipeline.call(hang, "slow"))
    await settle()
    held = keyed.get("slow")
    for number in range(5):
        await pipeline.call(answer, number)
    assert keyed.get("slow") is held
    gate.set()
    await task
    for number in range(5):
        await pipeline.call(answer, number)
    assert keyed.get("slow") is None


async def test_keys_without_a_place_share_the_overflow_and_it_is_said_once() -> None:
    keyed, pipeline = keyed_breakers(2)
    await ask(pipeline, "dead 1", "failed")
    await ask(pipeline, "dead 2", "failed")
    told: list[Event] = []
    stop = subscribe(told.append)

    assert await ask(pipeline, "c") == "ok"
    assert await ask(pipeline, "d", "failed") == "failed"
    assert await ask(pipeline, "e") == "refused"
    stop()

    assert [event.details for event in told if event.kind == "warning"] == [
        {"problem": "no place for a key", "keys": 2}
    ]
    assert keyed.snapshot().overflow_calls == 3
    assert numbers("keyed_overflow_calls_total") == {("search",): 3}
    with pytest.raises(CircuitOpen) as refused:
        await pipeline.call(asyncio.sleep, 0.0)
    assert refused.value.pipeline == "search.other"


async def test_a_breaker_that_is_due_gives_its_place_up_when_nothing_idle_is_left() -> None:
    keyed, pipeline = keyed_breakers(2)
    await ask(pipeline, "dead 1", "failed")
    await asyncio.sleep(1)
    await ask(pipeline, "dead 2", "failed")

    await asyncio.sleep(59)
    assert await ask(pipeline, "new") == "ok"
    assert keyed.get("dead 1") is None
    assert await ask(pipeline, "dead 2") == "refused"


async def test_an_overflow_of_ones_own_is_used() -> None:
    keyed = Keyed(
        lambda key: CircuitBreaker(fail_max=1),
        key=lambda key, *rest: key,
        max_keys=1,
        overflow=CircuitBreaker("strict", fail_max=1),
    )
    pipeline = Pipeline("search", keyed)
    await ask(pipeline, "a", "failed")
    await ask(pipeline, "b", "failed")
    assert registry.breakers()["strict"].state == "open"


async def test_the_first_keys_have_labels_and_the_others_are_added_up() -> None:
    _, pipeline = keyed_breakers(3, max_labels=2)
    for key in ("a", "b", "c", "d", "a"):
        await ask(pipeline, key)

    assert numbers("circuit_breaker_success_total") == {
        ("search.a",): 2,
        ("search.b",): 1,
        ("search.other",): 2,
    }
    assert numbers("keyed_keys") == {("search",): 3}
    assert numbers("keyed_evictions_total") == {("search",): 2}


async def test_counters_do_not_go_back_when_keys_are_forgotten() -> None:
    _, pipeline = keyed_breakers(2, max_labels=1)
    before = 0.0
    for number in range(30):
        await ask(pipeline, number % 7, "failed" if number == 0 else "ok")
        counts = numbers("circuit_breaker_success_total")
        assert len(counts) <= 2
        total = sum(value for value in counts.values() if isinstance(value, (int, float)))
        assert total >= before
        before = total
    assert before + 5 == 30  # one failed, and key 0 was refused ever after


async def test_open_breakers_of_other_keys_are_counted_by_state() -> None:
    _, pipeline = keyed_breakers(5, max_labels=0)
    for key in ("a", "b", "c"):
        await ask(pipeline, key, "failed" if key != "c" else "ok")
    states = numbers("circuit_breaker_state")
    assert states["search.other", "open"] == 2
    assert states["search.other", "closed"] == 2  # "c" and the overflow


async def test_a_snapshot_shows_the_keys_used_last() -> None:
    keyed, pipeline = keyed_breakers(SHOWN_KEYS + 20)
    for number in range(SHOWN_KEYS + 20):
        await ask(pipeline, number)
    shown = keyed.snapshot()
    assert shown.keys == SHOWN_KEYS + 20
    assert set(shown.states) == set(range(20, SHOWN_KEYS + 20))


async def test_the_registry_finds_the_breaker_of_each_key() -> None:
    keyed, pipeline = keyed_breakers(5)
    await ask(pipeline, ("anthropic", "small"), "failed")
    assert registry.breakers()["search.anthropic.small"].state == "open"
    assert registry.breakers()["search.anthropic.small"] is keyed.get(("anthropic", "small"))


async def test_a_reload_reaches_every_key_there_is_and_those_to_come() -> None:
    keyed = Keyed(lambda key: CircuitBreaker(), key=lambda key, *rest: key)
    pipeline = Pipeline("search", keyed)
    await ask(pipeline, "a")
    await ask(pipeline, "b", "failed")

    registry.reload(
        {
            "CIRCUIT_BREAKER_FAIL_MAX": "2",
            "SEARCH_B_CIRCUIT_BREAKER_FAIL_MAX": "9",
            "SEARCH_KEYED_MAX_KEYS": "7",
        }
    )

    await ask(pipeline, "c")
    found = {name: breaker.settings()["fail_max"] for name, breaker in registry.breakers().items()}
    assert found == {"search.a": 2, "search.b": 9, "search.c": 2, "search.other": 2}
    assert registry.breakers()["search.b"].snapshot().consecutive_failures == 1
    assert keyed.settings()["max_keys"] == 7


async def test_settings_given_to_one_pipeline_alone_hold_for_its_new_keys() -> None:
    keyed = Keyed(lambda key: CircuitBreaker(f"named {key}"), key=lambda key, *rest: key)
    other = Pipeline("other", keyed)
    other.apply(Settings({"CIRCUIT_BREAKER_FAIL_MAX": "4"}))
    await ask(other, "a")
    assert layer_config.current().choose("x", "CIRCUIT_BREAKER_FAIL_MAX") == 5
    assert registry.breakers()["named a"].settings()["fail_max"] == 4


def test_a_bad_variable_of_a_key_is_found_by_the_reload() -> None:
    _, pipeline = keyed_breakers(5)
    asyncio.run(ask(pipeline, "a"))
    with pytest.raises(ConfigurationError, match="SEARCH_A_CIRCUIT_BREAKER_FAIL_MAX"):
        registry.reload({"SEARCH_A_CIRCUIT_BREAKER_FAIL_MAX": "none"})


async def test_fewer_keys_take_effect_with_the_next_new_key() -> None:
    keyed, pipeline = keyed_breakers(5)
    for number in range(5):
        await ask(pipeline, number)
    keyed.table.max_keys = 2
    await ask(pipeline, "new")
    assert list(keyed.table.entries) == [4, "new"]


@settings(max_examples=40, deadline=None)
@given(
    max_keys=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([0.0, 1.0, 30.0])), max_size=40
    ),
)
async def test_no_key_meets_another_keys_state_nor_loses_its_own_while_open(
    max_keys: int, steps: list[tuple[int, bool, float]]
) -> None:
    """Against the model: who failed less than 60 s ago is refused, and nobody else is, but by the overflow."""
    keyed, pipeline = keyed_breakers(max_keys)
    time = asyncio.get_running_loop().time
    opened: dict[int, float] = {}
    for key, fails, seconds in steps:
        await asyncio.sleep(seconds)
        overflowed = keyed.snapshot().overflow_calls
        ended = await ask(pipeline, key, "failed" if fails else "ok")
        if keyed.snapshot().overflow_calls > overflowed:
            busy = [other for other, since in opened.items() if time() < since + 60]
            assert len(busy) >= max_keys, "something could have gone"
            assert key not in busy
            continue
        if key in opened and time() < opened[key] + 60:
            assert ended == "refused"
        else:
            assert ended == ("failed" if fails else "ok")
            opened.pop(key, None)
            if fails:
                opened[key] = time()
