"""The retry loop against a naive model: every way to run a call, whatever fails and however it is limited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience import Budget, Limit, Pipeline, Retry, registry
from mcp_server_langgraph.resilience.policy import Call, Policy, Proceed, ProceedStream, ProceedSync
from mcp_server_langgraph.resilience.propagation import current_attempt
from mcp_server_langgraph.resilience.testing import run

ERRORS: dict[str, Callable[[], Exception]] = {
    "down": ConnectionError,
    "slow": TimeoutError,
    "odd": lambda: RuntimeError("odd"),
    "bug": TypeError,
}
JITTERS: Any = st.sampled_from(["full", "equal", "decorrelated", "none"])


class Numbers:
    """Chance that repeats itself."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> float:
        self.taken += 1
        return (self.taken * 0.37) % 1


def expected(
    words: list[str], rules: dict[str, Any], limit: int | None
) -> tuple[list[float], list[int], str]:
    """The waits between attempts, the attempts' numbers as seen inside, and how it ends, counted out by hand."""
    chance, waits, seen, previous, timeouts = Numbers(), [], [], rules["multiplier"], 0
    for number, word in enumerate([*words, "fine"], start=1):
        seen.append(number)
        if word in ("fine", "bug"):
            return waits, seen, word
        timeouts += word == "slow"
        if rules["jitter"] == "decorrelated":
            low, high = rules["multiplier"], max(rules["multiplier"], previous * 3)
            wait = previous = min(rules["wait_max"], low + (high - low) * chance())
        else:
            whole = min(rules["wait_max"], rules["multiplier"] * 2 ** (number - 1))
            lot = chance()
            wait = {"full": whole * lot, "equal": whole / 2 + whole / 2 * lot, "none": whole}[rules["jitter"]]
        if number == rules["max_attempts"] or (limit is not None and word == "slow" and timeouts >= limit):
            return waits, seen, word
        waits.append(wait)
    raise AssertionError


class Script:
    """Does as told, and notes when it was asked, and which attempt it was told that it is."""

    def __init__(self, words: list[str], clock: Callable[[], float]) -> None:
        self.words, self.clock = [*words, "fine"], clock
        self.times: list[float] = []
        self.seen: list[int] = []

    def step(self) -> str:
        self.times.append(self.clock())
        self.seen.append(current_attempt())
        word = self.words[len(self.times) - 1]
        if word in ERRORS:
            raise ERRORS[word]()
        return word

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


class Between(Policy):
    """In the general form, so that the retry stands in a frame behind it."""

    async def run(self, call: Call, proceed: Proceed) -> Any:
        return await proceed(call)

    def run_sync(self, call: Call, proceed: ProceedSync) -> Any:
        return proceed(call)

    async def stream(self, call: Call, proceed: ProceedStream) -> AsyncGenerator[Any, Any]:
        async with aclosing(proceed(call)) as items:
            async for item in items:
                yield item


def in_a_coroutine(pipeline: Pipeline, words: list[str]) -> tuple[Script, str]:
    async def main() -> tuple[Script, str]:
        script = Script(words, asyncio.get_running_loop().time)

        async def fn() -> str:
            return script.step()

        return script, await outcome(pipeline.call(fn))

    return run(main())


def in_a_stream(pipeline: Pipeline, words: list[str]) -> tuple[Script, str]:
    async def main() -> tuple[Script, str]:
        script = Script(words, asyncio.get_running_loop().time)

        async def fn() -> AsyncGenerator[str, None]:
            yield script.step()

        async def consume() -> str:
            async with aclosing(pipeline.stream(fn)) as items:
                (word,) = [item async for item in items]
                return word

        return script, await outcome(consume())

    return run(main())


def in_a_function(pipeline: Pipeline, words: list[str]) -> tuple[Script, str]:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    script = Script(words, lambda: now)
    with mock.patch.object(time, "sleep", sleep):
        try:
            return script, pipeline.call_sync(script.step)
        except Exception as exc:
            return script, word_of(exc)


async def outcome(call: Any) -> str:
    try:
        return await call
    except Exception as exc:
        return word_of(exc)
    finally:
        assert current_attempt() == 1


def word_of(exc: Exception) -> str:
    return next(word for word, make in ERRORS.items() if type(make()) is type(exc))


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.sampled_from(list(ERRORS)), max_size=6),
    rules=st.fixed_dictionaries(
        {
            "max_attempts": st.integers(1, 6),
            "jitter": JITTERS,
            "multiplier": st.sampled_from([0.0, 0.25, 1.0]),
            "wait_max": st.sampled_from([0.5, 3.0]),
        }
    ),
    limit=st.none() | st.integers(1, 3),
    way=st.sampled_from([in_a_coroutine, in_a_stream, in_a_function]),
    behind=st.booleans(),
)
def test_the_loop_does_what_is_counted_out_by_hand(
    words: list[str], rules: dict[str, Any], limit: int | None, way: Any, behind: bool
) -> None:
    registry.reset()
    limits = [] if limit is None else [Limit(TimeoutError, limit)]
    retry = Retry(**rules, limits=limits, budget=Budget.unlimited(), chance=Numbers())
    pipeline = Pipeline("svc", *([Between()] if behind else []), retry)
    waits, seen, end = expected(words, rules, limit)
    script, ended = way(pipeline, words)
    assert (script.seen, ended) == (seen, end)
    assert all(abs(ours - theirs) < 1e-6 for ours, theirs in zip(script.waits, waits, strict=True))
