"""tenacity as an oracle for its drop-in: the same hooks in the same order with the same states, the same endings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import tenacity as t
import tenacity.asyncio as ta
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience.integrations import _tenacity_loop
from mcp_server_langgraph.resilience.integrations.tenacity import AsyncRetrying
from mcp_server_langgraph.resilience.testing import run

WORK = 0.25
"""Seconds that an attempt takes."""

RAISED: dict[str, Callable[[], Exception]] = {
    "down": lambda: ConnectionError("down"),
    "bad": lambda: ValueError("bad"),
    "again": t.TryAgain,
}


class Script:
    """Does what it is told, attempt by attempt; the last word counts for all further attempts."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.times: list[float] = []

    async def __call__(self, given: str = "", *, named: str = "") -> str:
        self.times.append(asyncio.get_running_loop().time())
        word = self.words[min(len(self.times), len(self.words)) - 1]
        await asyncio.sleep(WORK)
        if word in RAISED:
            raise RAISED[word]()
        return word + given + named


class Journal:
    """What hooks and strategies are shown, in order."""

    def __init__(self) -> None:
        self.lines: list[object] = []

    def hook(self, name: str, asynchronous: bool, gives: object = None) -> Any:
        def plain(state: t.RetryCallState) -> object:
            self.lines.append((name, *_shown(state)))
            return gives

        async def waiting(state: t.RetryCallState) -> object:
            await asyncio.sleep(0.5)
            return plain(state)

        return waiting if asynchronous else plain


def _shown(state: t.RetryCallState) -> tuple[object, ...]:
    outcome = state.outcome
    ended = None if outcome is None else (outcome.attempt_number, repr(outcome.exception()))
    numbers = state.attempt_number, state.idle_for, state.upcoming_sleep, state.seconds_since_start
    statistics = dict(state.retry_object.statistics)
    return *numbers, str(state.next_action), ended, state.args, dict(state.kwargs), statistics


async def decorated(kind: type[t.AsyncRetrying], fn: Script, options: dict[str, Any]) -> object:
    async def call(*args: Any, **kwargs: Any) -> str:
        return await fn(*args, **kwargs)

    retried: Any = kind(**options).wraps(call)
    try:
        return await retried("a", named="b")
    finally:
        fn.times.append(retried.statistics)


async def called(kind: type[t.AsyncRetrying], fn: Script, options: dict[str, Any]) -> object:
    retrying = kind(**options)
    try:
        return await retrying(fn, "a", named="b")
    finally:
        fn.times.append(retrying.statistics)


async def iterated(kind: type[t.AsyncRetrying], fn: Script, options: dict[str, Any]) -> object:
    retrying, result = kind(**options), None
    try:
        async for attempt in retrying:
            with attempt:
                result = await fn()
            state = attempt.retry_state
            if state.outcome is not None and not state.outcome.failed:
                state.set_result(result)
        return result
    finally:
        fn.times.append(retrying.statistics)


WAYS = [decorated, called, iterated]


async def told(
    kind: type[t.AsyncRetrying],
    way: Callable[..., Coroutine[Any, Any, object]],
    words: list[str],
    hooks: dict[str, bool | None],
    given: dict[str, Any],
) -> tuple[object, ...]:
    """How it ended, when the attempts were, what the statistics say, and what hooks were shown."""
    script, journal = Script(words), Journal()
    gives = {"retry_error_callback": "given up"}
    own = {
        name: journal.hook(name, kind, gives.get(name)) for name, kind in hooks.items() if kind is not None
    }
    clock = SimpleNamespace(monotonic=asyncio.get_running_loop().time)
    random.seed(7)
    with mock.patch.object(t, "time", clock), mock.patch.object(_tenacity_loop, "time", clock):
        try:
            ended: object = await way(kind, script, {**given, **own, "sleep": asyncio.sleep})
        except Exception as exc:
            ended = (
                type(exc).__name__,
                str(exc).split(" state=")[0].split("<Future at")[0],
                repr(exc.__cause__),
            )
    return ended, script.times, journal.lines


async def _down(exc: BaseException) -> bool:
    await asyncio.sleep(0.5)
    return "down" in str(exc)


async def _wrong(result: object) -> bool:
    return str(result).startswith("wrong")


STOPS = [t.stop_after_attempt(1), t.stop_after_attempt(3), t.stop_before_delay(3) | t.stop_after_attempt(5)]
WAITS = [
    t.wait_none(),
    t.wait_fixed(1.5),
    t.wait_random(0.5, 2),
    t.wait_chain(t.wait_fixed(0.5), t.wait_fixed(1)),
]
RETRIES = [
    t.retry_if_exception_type(),
    t.retry_if_exception_type(OSError),
    t.retry_never,
    t.retry_always,
    t.retry_unless_exception_type(ValueError),
    t.retry_if_result(lambda result: str(result).startswith("wrong")),
    t.retry_any(t.retry_if_exception_type(OSError), t.retry_if_exception_type(ValueError)),
    ta.retry_if_exception(_down),
    ta.retry_if_result(_wrong),
    ta.retry_any(ta.retry_if_exception(_down), t.retry_if_exception_type(ValueError)),
]
HOOKS = st.fixed_dictionaries(
    {name: st.sampled_from([None, False, True]) for name in ("before", "after", "before_sleep")}
    | {"retry_error_callback": st.sampled_from([None, None, False, True])}
)
OPTIONS = st.fixed_dictionaries(
    {"stop": st.sampled_from(STOPS), "wait": st.sampled_from(WAITS), "retry": st.sampled_from(RETRIES)},
    optional={"reraise": st.booleans()},
)
WORDS = st.lists(st.sampled_from([*RAISED, "wrong", "right"]), min_size=1, max_size=5)
NONE: dict[str, bool | None] = {}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@settings(max_examples=150, deadline=None)
@given(words=WORDS, hooks=HOOKS, options=OPTIONS)
@example(["again", "right"], NONE, {"stop": STOPS[1], "wait": WAITS[0], "retry": RETRIES[0]})
@example(["wrong", "right"], NONE, {"stop": STOPS[1], "wait": WAITS[1], "retry": RETRIES[5]})
@example(["down"], NONE, {"stop": STOPS[1], "wait": WAITS[1], "retry": RETRIES[0], "reraise": True})
def test_hooks_states_waits_statistics_and_endings_are_tenacitys(
    way: Any, words: list[str], hooks: dict[str, bool | None], options: dict[str, Any]
) -> None:
    ours, theirs = (
        run(told(kind, way, words, hooks, options), start=64) for kind in (AsyncRetrying, t.AsyncRetrying)
    )
    assert ours == theirs
