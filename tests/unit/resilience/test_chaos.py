"""Chaos: what it does to a call, and that it cannot be left on unseen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Call,
    Chaos,
    CircuitBreaker,
    ConfigurationError,
    Event,
    Pipeline,
    Retry,
    Settings,
    TimedOut,
    Timeout,
    Window,
    collect_degradations,
    config,
    registry,
    subscribe,
)
from mcp_server_langgraph.resilience.policy import Guard

ON = {"CHAOS_ENABLED": "true"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    config.install(Settings(ON))
    yield
    registry.reset()


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []

    def listen(event: Event) -> None:
        if event.kind == "chaos":
            events.append(event.details)

    unsubscribe = subscribe(listen)
    yield events
    unsubscribe()


def every(**options: Any) -> Chaos:
    return Chaos(rate=1, enabled=True, **options)


async def fine() -> str:
    return "fine"


def metric(name: str) -> dict[tuple[str, ...], Any]:
    return next(each.samples for each in registry.metrics() if each.name == name)


# What it does


@pytest.mark.parametrize("fault", [ConnectionError("x"), ConnectionError, lambda: ConnectionError("made")])
async def test_a_fault_is_raised_instead_of_the_call_and_says_so(fault: Any) -> None:
    pipeline = Pipeline("s", every(fault=fault))
    for _ in range(2):
        with pytest.raises(ConnectionError) as raised:
            await pipeline.call(fine)
        assert raised.value.__notes__ == ["resilience: injected by chaos of 's'"]


async def test_latency_is_added_to_the_call() -> None:
    loop = asyncio.get_running_loop()
    assert await Pipeline("s", every(latency=3)).call(fine) == "fine"
    assert loop.time() == 3
    pair = Pipeline("s", every(latency=(1, 2), seed=1))
    drawn = Pipeline("s", every(latency=lambda chance: chance.choice([-5.0, 0.5]), seed=1))
    lengths: list[float] = []
    for pipeline in [pair] * 20 + [drawn] * 20:
        began = loop.time()
        await pipeline.call(fine)
        lengths.append(loop.time() - began)
    assert all(1 <= length <= 2 for length in lengths[:20])
    assert len(set(lengths[:20])) > 10
    assert {round(length, 6) for length in lengths[20:]} == {0.0, 0.5}


async def test_an_outcome_is_given_instead_of_the_call_and_judged_like_one() -> None:
    assert await Pipeline("s", every(outcome=None)).call(fine) is None
    breaker = CircuitBreaker("s", fail_max=1)
    judged = Pipeline("s", breaker, every(outcome="bad"), is_failure=lambda text: text == "bad")
    assert await judged.call(fine) == "bad"
    assert breaker.state == "open"


async def test_a_behaviour_is_given_the_call_whether_it_waits_or_not() -> None:
    seen: list[tuple[Any, ...]] = []

    def plain(call: Call) -> None:
        seen.append((*call.args, call.attempt))

    async def waiting(call: Call) -> None:
        await asyncio.sleep(1)
        plain(call)

    async def echo(text: str) -> str:
        return text

    for behaviour in (plain, waiting):
        assert await Pipeline("s", every(behaviour=behaviour)).call(echo, "text") == "text"
    assert seen == [("text", 1), ("text", 1)]
    assert asyncio.get_running_loop().time() == 1


async def test_all_of_them_come_in_order() -> None:
    steps: list[float] = []
    chaos = every(behaviour=lambda call: steps.append(0.0), latency=2, fault=ConnectionError)
    with pytest.raises(ConnectionError):
        await Pipeline("s", chaos).call(fine)
    assert (steps, asyncio.get_running_loop().time()) == ([0.0], 2.0)
    assert chaos.snapshot().injected == {"behaviour": 1, "latency": 1, "fault": 1, "outcome": 0}


async def test_what_stands_around_it_deals_with_it_as_with_the_real_thing() -> None:
    late = Pipeline("s", Timeout(1), every(latency=60))
    with pytest.raises(TimedOut):
        await late.call(fine)
    flaky = Pipeline(
        "s", Retry(max_attempts=20), Chaos(fault=ConnectionError, rate=0.5, seed=3, enabled=True)
    )
    assert await flaky.call(fine) == "fine"


def test_plain_functions_are_struck_too() -> None:
    def plain() -> str:
        return "fine"

    seen: list[Call] = []
    assert Pipeline("s", every(outcome="other")).call_sync(plain) == "other"
    assert Pipeline("s", every(behaviour=seen.append, latency=0.001)).call_sync(plain) == "fine"
    assert len(seen) == 1
    assert Pipeline("s", every(latency=lambda chance: -1.0)).call_sync(plain) == "fine"
    with pytest.raises(ConnectionError):
        Pipeline("s", every(fault=ConnectionError)).call_sync(plain)
    assert Pipeline("s", Chaos(fault=ConnectionError, rate=0, enabled=True)).call_sync(plain) == "fine"


def test_a_behaviour_that_waits_cannot_strike_a_plain_function() -> None:
    async def waiting(call: Call) -> None: ...

    with pytest.raises(TypeError, match="its behaviour is asynchronous"):
        Pipeline("s", every(behaviour=waiting)).call_sync(lambda: "fine")
    with pytest.raises(TypeError, match="awaitable"):
        Pipeline("s", every(behaviour=lambda call: waiting(call))).call_sync(lambda: "fine")


# Streams


async def numbers(count: int = 4) -> AsyncGenerator[int, Any]:
    for number in range(count):
        yield number


async def read(pipeline: Pipeline) -> tuple[list[int], str]:
    items: list[int] = []
    try:
        async for item in pipeline.stream(numbers):
            items.append(item)  # noqa: PERF401 (what came before the error counts)
    except Exception as exc:
        return items, type(exc.__cause__ or exc).__name__
    return items, "ended"


@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, ([], "ConnectionError")), (2, ([0, 1], "ConnectionError")), (9, ([0, 1, 2, 3], "ended"))],
)
async def test_a_stream_breaks_after_so_many_items(after: int, expected: tuple[list[int], str]) -> None:
    chaos = every(fault=ConnectionError, after_items=after)
    assert await read(Pipeline("s", chaos)) == expected
    assert chaos.snapshot().injected["fault"] == (1 if expected[1] != "ended" else 0)


async def test_a_stream_may_be_late_or_replaced_or_left_alone() -> None:
    assert await read(Pipeline("s", every(latency=5))) == ([0, 1, 2, 3], "ended")
    assert asyncio.get_running_loop().time() == 5
    assert await read(Pipeline("s", every(outcome=7))) == ([7], "ended")
    assert await read(Pipeline("s", Chaos(fault=ConnectionError, rate=0, enabled=True))) == (
        [0, 1, 2, 3],
        "ended",
    )


async def test_what_a_consumer_sends_and_throws_reaches_a_struck_stream() -> None:
    got: list[Any] = []

    async def echo() -> AsyncGenerator[str, str]:
        said = "begin"
        while said != "end":
            try:
                said = yield said
            except LookupError:
                said = "caught"
            got.append(said)

    stream = Pipeline("s", every(latency=1)).stream(echo)
    assert await anext(stream) == "begin"
    assert await stream.asend("one") == "one"
    assert await stream.athrow(LookupError()) == "caught"
    with pytest.raises(StopAsyncIteration):
        await stream.asend("end")
    assert got == ["one", "caught", "end"]


# Off, unless two want it, and for a while


@pytest.mark.parametrize(
    ("code", "environ", "on"),
    [
        (False, {}, False),
        (True, {}, False),
        (False, ON, False),
        (True, ON, True),
        (True, {"S_CHAOS_ENABLED": "true"}, True),
        (True, {**ON, "S_CHAOS_ENABLED": "false"}, False),
        (True, {**ON, "ENVIRONMENT": "production"}, False),
        (True, {**ON, "ENVIRONMENT": "Prod"}, False),
        (True, {**ON, "ENVIRONMENT": "staging"}, True),
        (True, {**ON, "ENVIRONMENT": "production", "CHAOS_ALLOW_PRODUCTION": "true"}, True),
    ],
)
async def test_code_and_operator_have_to_want_it_and_production_refuses(
    code: bool, environ: dict[str, str], on: bool
) -> None:
    config.install(Settings(environ))
    chaos = Chaos(outcome="struck", rate=1, enabled=code)
    pipeline = Pipeline("s", chaos)
    assert await pipeline.call(fine) == ("struck" if on else "fine")
    assert chaos.snapshot().state == ("on" if on else "off")


async def test_where_the_code_does_not_want_it_a_reload_changes_nothing() -> None:
    pipeline = Pipeline("s", Chaos(outcome="struck", rate=1))
    assert type(pipeline.bound[0]) is Guard  # which is fused with its neighbours: it costs next to nothing
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    assert pipeline.call_sync(lambda: "fine") == "fine"


async def test_it_expires_by_itself_and_says_so_once(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck")
    pipeline = Pipeline("s", chaos)
    await asyncio.sleep(899)
    assert await pipeline.call(fine) == "struck"
    await asyncio.sleep(1)
    assert [await pipeline.call(fine) for _ in range(2)] == ["fine"] * 2
    assert heard == [
        {"state": "on", "rate": 1.0, "max_duration": 900.0},
        {"state": "striking", "injected": 1},
        {"state": "expired", "injected": 1},
    ]
    assert metric("chaos_active") == {("s",): 0}


async def test_it_expires_though_nobody_calls(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck", max_duration=60)
    pipeline = Pipeline("s", chaos)
    assert metric("chaos_active") == {("s",): 1}
    await asyncio.sleep(60)
    assert metric("chaos_active") == {("s",): 0}
    assert [event["state"] for event in heard] == ["on", "expired"]
    assert pipeline.snapshot()["chaos"].state == "expired"


async def test_reloading_does_not_prolong_it_and_switching_off_and_on_does(
    heard: list[dict[str, Any]],
) -> None:
    pipeline = Pipeline("s", every(outcome="struck", max_duration=60))
    await asyncio.sleep(59)
    registry.reload(ON)
    await asyncio.sleep(1)
    assert await pipeline.call(fine) == "fine"
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    registry.reload({})
    registry.reload(ON)
    assert await pipeline.call(fine) == "struck"
    registry.reload({})
    assert await pipeline.call(fine) == "fine"
    assert [event["state"] for event in heard] == ["on", "expired", "on", "striking", "off"]


async def test_it_can_be_stopped_from_code(heard: list[dict[str, Any]]) -> None:
    chaos = every(outcome="struck")
    pipeline = Pipeline("s", chaos)
    chaos.stop()
    chaos.stop()
    registry.reload(ON)
    assert await pipeline.call(fine) == "fine"
    assert [event["state"] for event in heard] == ["on", "off"]


async def test_production_is_told_why_nothing_happens(heard: list[dict[str, Any]]) -> None:
    config.install(Settings({**ON, "ENVIRONMENT": "production"}))
    pipeline = Pipeline("s", every(outcome="struck"))
    registry.reload({**ON, "ENVIRONMENT": "production"})
    assert await pipeline.call(fine) == "fine"
    assert heard == [{"state": "refused", "environment": "production"}]


async def test_it_is_seen_while_it_is_on(
    heard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline("s", every(outcome="struck", latency=0))
    with collect_degradations() as notes:
        for _ in range(101):
            await pipeline.call(fine)
    assert [event["state"] for event in heard] == ["on", "striking", "striking", "striking"]
    assert [event.get("injected") for event in heard] == [None, 1, 101, 201]
    assert {(note.service, note.reason, note.source) for note in notes} == {
        ("s", "chaos", "latency"),
        ("s", "chaos", "outcome"),
    }
    assert "'state': 'on'" in str(pipeline.describe())
    assert "state='on'" in repr(pipeline)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert metric("chaos_injected_total")[("s", "outcome")] == 101


async def test_a_schedule_says_when() -> None:
    chaos = every(outcome="struck", schedule=Window(1, 2, every=10), max_duration=100)
    pipeline = Pipeline("s", chaos)
    struck = []
    for second in range(25):
        if await pipeline.call(fine) == "struck":
            struck.append(second)
        await asyncio.sleep(1)
    assert struck == [1, 11, 21]


async def test_the_operator_overrules_rate_and_duration() -> None:
    config.install(Settings({**ON, "S_CHAOS_RATE": "0", "S_CHAOS_MAX_DURATION": "5"}))
    chaos = every(outcome="struck", max_duration=50)
    assert await Pipeline("s", chaos).call(fine) == "fine"
    assert (chaos.settings()["rate"], chaos.settings()["max_duration"]) == (0.0, 5.0)
    config.install(Settings({}))
    assert Chaos(latency=1).machine.rate == 0.0
    assert Pipeline("s", Chaos(latency=1)).policies[0].settings()["rate"] == 0.001


def test_settings_name_what_it_does() -> None:
    chaos = Chaos(fault=ConnectionError("secret"), latency=random.Random.random, rate=0.5)
    Pipeline("s", chaos)
    assert chaos.settings() == {
        "fault": "ConnectionError",
        "latency": "Random.random" if "Random" in random.Random.random.__qualname__ else "random",
        "rate": 0.5,
        "max_duration": 900.0,
        "state": "off",
    }
    assert Chaos(outcome=503, behaviour=print).settings()["outcome"] == 503


def test_latency_adds_to_the_worst_case() -> None:
    assert Pipeline("s", Timeout(9), every(latency=(1, 2))).describe()["seconds"] == 9
    cost = every(latency=(1, 2)).worst_case(Timeout(1).worst_case(Chaos(latency=5).worst_case(_cost())))
    assert (cost.requests, cost.seconds) == (1, 2.5)
    assert every(latency=lambda chance: 1.0).worst_case(_cost()).seconds == float("inf")


def _cost() -> Any:
    from mcp_server_langgraph.resilience.policy import Cost

    return Cost(1, 0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "nothing to do"),
        ({"fault": ConnectionError, "outcome": 1}, "exclude each other"),
        ({"fault": "down"}, "fault='down'"),
        ({"behaviour": 3}, "behaviour=3"),
        ({"latency": -1}, "latency=-1"),
        ({"latency": (2, 1)}, "latency="),
        ({"latency": float("inf")}, "latency=inf"),
        ({"latency": 1, "rate": 1.1}, "rate=1.1"),
        ({"latency": 1, "max_duration": 0}, "max_duration=0"),
        ({"latency": 1, "max_duration": float("inf")}, "max_duration=inf"),
        ({"latency": 1, "after_items": -1}, "after_items=-1"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(")):
        Chaos(**wrong)
