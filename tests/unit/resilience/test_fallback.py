"""The ladder of fallbacks: when it answers, with which rung, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    ConfigurationError,
    DeadlineExceeded,
    Event,
    Fallback,
    Kind,
    LastGood,
    Outcome,
    Pipeline,
    Policy,
    RateLimited,
    RetriesExhausted,
    Retry,
    Rung,
    TimedOut,
    Timeout,
    Value,
    Verdict,
    collect_degradations,
    registry,
    subscribe,
    timeout,
    with_fallback,
)
from mcp_server_langgraph.resilience.testing import settle


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    registry.reset()
    yield
    registry.reset()


def now() -> float:
    return asyncio.get_running_loop().time()


def raising(exc: BaseException) -> Callable[..., Awaitable[Any]]:
    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise exc

    return fail


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers={})


async def answer(exc: BaseException, *policies: Policy, rungs: tuple[Any, ...] = (Value("instead"),)) -> Any:
    return await Pipeline("s", Fallback(*rungs), *policies).call(raising(exc))


def wrapped(cause: Exception) -> RetriesExhausted:
    exhausted = RetriesExhausted("s", 3, 1.0)
    exhausted.__cause__ = cause
    return exhausted


def named(exc: BaseException) -> str:
    return f"{type(exc).__name__} {exc} {type(exc.__cause__).__name__ if exc.__cause__ else ''}"


# For what


@pytest.mark.parametrize(
    "exc",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        StatusError(503),
        StatusError(529),
        StatusError(408),
        CircuitOpen("s", 3.0),
        TimedOut("s", 1.0, "attempt"),
        TimedOut("s", 1.0, "total"),
        wrapped(ConnectionError()),
    ],
    ids=named,
)
async def test_it_answers_for_unavailability(exc: Exception) -> None:
    assert await answer(exc) == "instead"


@pytest.mark.parametrize(
    "exc",
    [
        TypeError("bug"),
        KeyError("bug"),
        ValueError("bug"),
        PermissionError(),
        StatusError(400),
        StatusError(401),
        StatusError(403),
        StatusError(404),
        StatusError(429),
        BulkheadFull("s"),
        RateLimited("s", 2.0),
        DeadlineExceeded("s"),
        TimedOut("s", 1.0, "inherited"),
        wrapped(TypeError()),
        RuntimeError("nobody knows what this is"),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
    ids=named,
)
async def test_it_never_answers_for_anything_else(exc: BaseException) -> None:
    async def call() -> Any:
        try:
            return await answer(exc)
        except BaseException as raised:
            return raised

    with collect_degradations() as notes:
        assert await call() is exc
    assert notes == []


async def test_the_classifier_has_the_last_word_on_what_unavailability_is() -> None:
    def classifier(exc: BaseException) -> Verdict:
        return Verdict(Outcome.NEUTRAL, unavailable=isinstance(exc, KeyError))

    pipeline = Pipeline("s", Fallback(Value("instead")), classifier=classifier)
    assert await pipeline.call(raising(KeyError())) == "instead"
    with pytest.raises(ConnectionError):
        await pipeline.call(raising(ConnectionError()))


async def test_a_rung_may_answer_for_more_and_only_that_rung_does() -> None:
    rungs = (Value("for outages"), Rung(Value("for crowds too"), also=(BulkheadFull,)))
    assert await answer(BulkheadFull("s"), rungs=rungs) == "for crowds too"
    assert await answer(ConnectionError(), rungs=rungs) == "for outages"
    with pytest.raises(RateLimited):
        await answer(RateLimited("s"), rungs=rungs)


async def test_so_may_the_whole_ladder() -> None:
    pipeline = Pipeline("s", Fallback(Value(1), also=(BulkheadFull, RateLimited)))
    assert await pipeline.call(raising(RateLimited("s"))) == 1
    with pytest.raises(TypeError):
        await pipeline.call(raising(TypeError()))


async def test_an_open_circuit_and_a_full_bulkhead_at_work() -> None:
    pipeline = Pipeline(
        "s", Fallback(Value("instead")), Bulkhead(1, max_queue=0), CircuitBreaker("b", fail_max=1)
    )
    assert await pipeline.call(raising(ConnectionError())) == "instead"
    assert await pipeline.call(asyncio.sleep, 0, "real") == "instead"
    pipeline = Pipeline("s", Fallback(Value("instead")), Bulkhead(1, max_queue=0))
    busy = asyncio.create_task(pipeline.call(asyncio.sleep, 1, "real"))
    await settle()
    with pytest.raises(BulkheadFull):
        await pipeline.call(asyncio.sleep, 0)
    assert await busy == "real"


# Which rung


async def test_rungs_are_tried_in_order_with_the_calls_arguments() -> None:
    asked: list[tuple[str, Any, Any]] = []

    async def first(*args: Any, **kwargs: Any) -> str:
        asked.append(("first", args, kwargs))
        raise ConnectionError("too")

    def second(*args: Any, **kwargs: Any) -> str:
        asked.append(("second", args, kwargs))
        raise TypeError("a bug of its own")

    def third(*args: Any, **kwargs: Any) -> str:
        asked.append(("third", args, kwargs))
        return "third"

    failure = ConnectionError()
    pipeline = Pipeline("s", Fallback(first, second, Rung(third, with_error=True), Value("never")))
    with collect_degradations() as notes:
        assert await pipeline.call(raising(failure), 1, x=2) == "third"
    given = ((1,), {"x": 2})
    assert asked == [("first", *given), ("second", *given), ("third", (failure, 1), {"x": 2})]
    assert [note.source.rpartition(".")[2] for note in notes] == ["third"]


async def test_a_rung_may_have_a_breaker_of_its_own_and_is_left_out_while_that_is_open() -> None:
    asked: list[str] = []

    async def second() -> str:
        asked.append("second")
        raise ConnectionError

    breaker = CircuitBreaker("second", fail_max=2)
    ladder = Fallback(Pipeline("second", breaker)(second), Value("third"))
    pipeline = Pipeline("first", ladder, CircuitBreaker("first", fail_max=4))
    answers = [await pipeline.call(raising(ConnectionError())) for _ in range(5)]
    assert (answers, asked) == (["third"] * 5, ["second"] * 2)
    assert {name: each.snapshot().rejected for name, each in registry.breakers().items()} == {
        "first": 1,
        "second": 3,
    }


async def test_where_no_rung_has_an_answer_the_original_error_comes_out() -> None:
    failure = ConnectionError("the real reason")
    ladder = Fallback(raising(TypeError("bug")), raising(ConnectionError()), LastGood(60))
    pipeline = Pipeline("s", ladder)
    with pytest.raises(ConnectionError) as caught:
        await pipeline.call(raising(failure))
    assert caught.value is failure
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert (numbers["fallback_used_total"], numbers["fallback_failed_total"]) == ({}, {("s",): 1})


async def test_cancellation_in_a_rung_stays_cancellation() -> None:
    async def slow() -> None:
        await asyncio.sleep(100)

    task = asyncio.create_task(answer(ConnectionError(), rungs=(slow, Value("never"))))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_after_our_own_time_ran_out_only_rungs_that_do_not_wait_are_tried() -> None:
    tried: list[str] = []

    async def another_model(*_: Any) -> str:
        tried.append("model")
        return "from another model"

    def quick(*_: Any) -> str:
        tried.append("quick")
        return "quick"

    def slow_though_plain(*_: Any) -> str:
        tried.append("slow")
        return "slow"

    async def at_once(*_: Any) -> str:
        return "at once"

    rungs = (another_model, Rung(slow_though_plain, waits=True), quick, Value("value"))
    pipeline = Pipeline("s", Fallback(*rungs), Timeout(2))
    assert await pipeline.call(asyncio.sleep, 5) == "quick"
    assert (tried, now()) == (["quick"], 2)
    assert (
        await Pipeline("s", Fallback(Rung(at_once, waits=False)), Timeout(2)).call(asyncio.sleep, 5)
        == "at once"
    )
    with pytest.raises(TimedOut):
        await Pipeline("s", Fallback(another_model), Timeout(2)).call(asyncio.sleep, 5)
    assert await answer(TimedOut("s", 1.0, "attempt"), rungs=(another_model,)) == "from another model"
    assert await answer(TimedOut("another pipeline", 1.0), rungs=(another_model,)) == "from another model"


@pytest.mark.parametrize("also", [(), (Exception,)])
async def test_a_deadline_of_the_caller_is_not_fallen_back_from(also: tuple[type[Exception], ...]) -> None:
    pipeline = Pipeline("s", Fallback(Value("instead"), also=also), Timeout(20), CircuitBreaker("b"))
    with pytest.raises(TimedOut) as caught:
        async with timeout(2, name="caller"):
            await pipeline.call(asyncio.sleep, 50)
    assert caught.value.pipeline == "caller"
    async with timeout(2):
        child = asyncio.create_task(pipeline.call(asyncio.sleep, 50))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(50)
        with pytest.raises(TimedOut, match="inherited"):
            await child
        with pytest.raises(DeadlineExceeded):
            await pipeline.call(asyncio.sleep, 0)
    samples = {metric.name: metric.samples for metric in registry.metrics()}
    assert samples["fallback_used_total"] == {}


# What is said


async def test_an_answer_of_a_rung_is_noted_counted_and_told() -> None:
    heard: list[Event] = []
    unsubscribe = subscribe(heard.append)
    pipeline = Pipeline("s", Fallback(Rung(Value(1), source="a constant")))
    with collect_degradations() as notes:
        await pipeline.call(raising(ConnectionError("secret words")))
    unsubscribe()
    assert [(note.service, note.reason, note.source, note.age) for note in notes] == [
        ("s", "ConnectionError", "a constant", None)
    ]
    numbers = {metric.name: metric.samples for metric in registry.metrics()}
    assert numbers["fallback_used_total"] == {("s", "a constant"): 1}
    assert numbers["fallback_failed_total"] == {("s",): 0}
    told = [(event.kind, event.pipeline, event.details) for event in heard]
    assert told == [("fallback", "s", {"source": "a constant", "error": "ConnectionError"})]


async def test_the_breaker_does_not_count_a_fallback_as_a_success() -> None:
    pipeline = Pipeline("s", Fallback(Value("instead")), CircuitBreaker("b", fail_max=3))
    for _ in range(5):
        assert await pipeline.call(raising(ConnectionError())) == "instead"
    snapshot = pipeline.snapshot()["circuit_breaker"]
    assert (snapshot.state, snapshot.successes, snapshot.failures) == ("open", 0, {"ConnectionError": 3})


async def test_what_a_broken_rung_says_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await answer(ConnectionError(), rungs=(raising(ValueError("the prompt was: xyzzy")), Value(1)))
    assert "ValueError" in caplog.text
    assert "xyzzy" not in caplog.text


async def test_switched_off_nothing_is_answered_for() -> None:
    registry.reload({"FF_ENABLE_RESILIENCE_PATTERNS": "false"})
    with pytest.raises(ConnectionError):
        await answer(ConnectionError())


# The last good value


class Service:
    def __init__(self) -> None:
        self.down = False

    async def read(self, key: Any, *, unit: str = "s", token: str | None = None) -> str:
        if self.down:
            raise ConnectionError
        return f"{key} in {unit} at {now():g}"


async def test_the_last_good_answer_comes_with_its_age_and_only_to_the_same_question() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60), Value("nothing")))
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"
    await pipeline.call(service.read, "cpu", unit="h")
    await asyncio.sleep(10)
    service.down = True
    with collect_degradations() as notes:
        assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"
        assert await pipeline.call(service.read, "cpu", unit="h") == "cpu in h at 0"
        assert await pipeline.call(service.read, "ram") == "nothing"
    assert [(note.source, note.age) for note in notes] == [
        ("LastGood", 10),
        ("LastGood", 10),
        ("Value", None),
    ]


async def test_it_is_good_up_to_its_age_and_no_longer() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60)))
    await pipeline.call(service.read, "cpu")
    await asyncio.sleep(30)
    await pipeline.call(service.read, "cpu")
    service.down = True
    await asyncio.sleep(60)
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 30"
    await asyncio.sleep(0.001)
    with pytest.raises(ConnectionError):
        await pipeline.call(service.read, "cpu")


async def test_answers_of_rungs_are_not_remembered() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60), Value("nothing")))
    service.down = True
    assert [await pipeline.call(service.read, "cpu") for _ in range(2)] == ["nothing", "nothing"]


async def test_it_remembers_so_many_and_forgets_what_was_longest_unused() -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60, max_size=2), Value("nothing")))
    for key in ("a", "b"):
        await pipeline.call(service.read, key)
    service.down = True
    assert await pipeline.call(service.read, "a") == "a in s at 0"
    service.down = False
    await pipeline.call(service.read, "c")
    service.down = True
    known = [await pipeline.call(service.read, key) for key in ("a", "b", "c")]
    assert known == ["a in s at 0", "nothing", "c in s at 0"]


async def test_a_key_of_ones_own_says_what_the_same_question_is() -> None:
    service = Service()
    memory = LastGood(60, key=lambda key, **_: str(key).lower())
    pipeline = Pipeline("s", Fallback(Rung(memory, with_error=True)))
    await pipeline.call(service.read, "CPU")
    service.down = True
    assert await pipeline.call(service.read, "cpu", unit="h") == "CPU in s at 0"


async def test_an_idempotency_key_is_no_part_of_the_question() -> None:
    service = Service()
    retry = Retry(1, kind=Kind.IDEMPOTENT_WRITE, idempotency_key="token")
    pipeline = Pipeline("s", Fallback(LastGood(60)), retry)
    await pipeline.call(service.read, "cpu")
    service.down = True
    assert await pipeline.call(service.read, "cpu") == "cpu in s at 0"


async def test_arguments_that_cannot_be_a_key_do_not_break_a_good_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service()
    pipeline = Pipeline("s", Fallback(LastGood(60)))
    assert await pipeline.call(service.read, ["a", "list"]) == "['a', 'list'] in s at 0"
    service.down = True
    with pytest.raises(ConnectionError):
        await pipeline.call(service.read, ["a", "list"])
    assert caplog.text.count("LastGood cannot remember") == 1


# Plain functions, and bad input


def test_plain_functions_fall_back_to_plain_rungs() -> None:
    failing = True

    @with_fallback(LastGood(60), lambda key: f"no {key}")
    def read(key: str) -> str:
        if failing:
            raise ConnectionError
        return f"good {key}"

    assert read("x") == "no x"
    failing = False
    assert read("x") == "good x"
    failing = True
    assert read("x") == "good x"


def test_a_plain_function_cannot_wait_for_a_rung() -> None:
    async def another() -> str:
        return "x"

    with pytest.raises(
        TypeError, match=r"fallback cannot guard the plain function .*: its rung .* is asynchronous"
    ):

        @with_fallback(another)
        def read() -> str:
            return "x"

    def fail() -> str:
        raise ConnectionError

    with pytest.raises(TypeError, match="awaitable"):
        Pipeline("s", Fallback(lambda: another())).call_sync(fail)


async def test_it_belongs_outermost() -> None:
    with pytest.raises(
        ConfigurationError, match="fallback inside retry: its answers would count as successes"
    ):
        Pipeline("s", Retry(), Fallback(Value(1)))


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one rung"):
        Fallback()
    with pytest.raises(ConfigurationError, match="'default' is no function; a fixed answer is a Value"):
        Fallback("default")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_age=0 must be above 0"):
        LastGood(0)
    with pytest.raises(ConfigurationError, match="max_size=0 at least 1"):
        LastGood(1, max_size=0)


def test_its_rungs_are_shown_by_name() -> None:
    ladder = Fallback(LastGood(1), Rung(Value(1), source="constant"), raising)
    assert ladder.settings() == {"rungs": ["LastGood", "constant", "raising"]}
