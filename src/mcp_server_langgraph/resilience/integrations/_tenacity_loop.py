"""What follows an attempt, in tenacity's order, as one function instead of a list of actions built anew each time.

The order: is it to be retried, ``after``, the wait, whether to stop, ``before_sleep``, the sleep. The wait is worked
out before it is asked whether to stop, as strategies may look at ``upcoming_sleep`` (``stop_before_delay`` does).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import tenacity
from tenacity import (
    AsyncRetrying,
    DoAttempt,
    DoSleep,
    RetryAction,
    RetryCallState,
    TryAgain,
    after_nothing,
    before_nothing,
)

from .. import stacking
from .._functions import faces, qualified_name
from ..deadline import now, remaining

__all__ = ["Statistics", "Step", "begin", "first_failure", "follow", "is_asynchronous", "run"]

Statistics = dict[str, Any]
Step = Callable[[RetryCallState], Any]


def _keys() -> frozenset[str]:
    example = tenacity.Retrying()
    example.begin()
    return frozenset(example.statistics)


# What the statistics of a call begin with: from tenacity 9.2 on a fourth key, which before that a failure added.
_DELAY: Final = "delay_since_first_attempt"
_KEYS: Final = len(_keys())
_DELAY_FROM_START: Final = _DELAY in _keys()


def begin(statistics: Statistics) -> float:
    """Begin a call's statistics; gives when, by the clock that tenacity takes."""
    if len(statistics) != _KEYS:
        statistics.clear()
    began = statistics["start_time"] = time.monotonic()
    statistics["attempt_number"] = 1
    statistics["idle_for"] = 0
    if _DELAY_FROM_START:
        statistics[_DELAY] = 0
    return began


def first_failure(
    retrying: AsyncRetrying,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    began: float,
    exc: Exception,
) -> RetryCallState:
    """The state of a call whose first attempt failed before anything was built."""
    state = RetryCallState(retrying, fn, args, kwargs)
    state.start_time = began
    _failed(state, exc)
    return state


def is_asynchronous(call: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    return any(map(inspect.iscoroutinefunction, faces(call)))


async def run(state: RetryCallState, call: Callable[..., Awaitable[Any]]) -> Any:
    """Attempt after attempt, from where ``state`` stands; ``call`` is what to await."""
    retrying = cast(AsyncRetrying, state.retry_object)
    while True:
        do = await retrying.iter(state)
        if isinstance(do, DoAttempt):
            try:
                state.set_result(await call(*state.args, **state.kwargs))
            except Exception as exc:  # anything else ends the call: nobody is asked about a cancellation
                _failed(state, exc)
        elif isinstance(do, DoSleep):
            state.prepare_for_next_attempt()
            await cast(Callable[[float], Awaitable[None]], retrying.sleep)(do)
        else:
            return do


def _failed(state: RetryCallState, exc: Exception) -> None:
    state.set_exception((type(exc), exc, exc.__traceback__))


async def follow(retrying: AsyncRetrying, state: RetryCallState) -> Any:
    """What to do now: an attempt (`DoAttempt`), a sleep (`DoSleep`), or the result of the call, which may be raised."""
    outcome = state.outcome
    if outcome is None:
        await _ask(retrying.before, state)
        return DoAttempt()
    exc = outcome.exception()
    if not isinstance(exc, TryAgain) and not await _ask(retrying.retry, state):
        return outcome.result()
    await _ask(retrying.after, state)
    state.upcoming_sleep = await _ask(retrying.wait, state) or 0.0
    retrying.statistics[_DELAY] = state.seconds_since_start
    if await _ask(retrying.stop, state) or _too_late(state.upcoming_sleep):
        return await _give_up(retrying, state)
    return await _sleep(retrying, state)


async def _ask(step: Step | None, state: RetryCallState) -> Any:
    """A hook or a strategy, plain or asynchronous; None where there is none."""
    if not step or step is before_nothing or step is after_nothing:
        return None
    if is_asynchronous(step):
        return await step(state)
    return step(state)


def _too_late(sleep: float) -> bool:
    """Whether the caller's deadline passes before the next attempt could begin."""
    left = remaining()
    return left is not None and sleep >= left


async def _sleep(retrying: AsyncRetrying, state: RetryCallState) -> DoSleep:
    sleep = state.upcoming_sleep
    state.next_action = RetryAction(sleep)
    state.idle_for += sleep
    retrying.statistics["idle_for"] += sleep
    retrying.statistics["attempt_number"] += 1
    await _ask(retrying.before_sleep, state)
    return DoSleep(state.upcoming_sleep)


async def _give_up(retrying: AsyncRetrying, state: RetryCallState) -> Any:
    outcome = state.outcome
    assert outcome is not None
    exc = outcome.exception()
    if exc is not None and state.attempt_number > 1:
        name = "tenacity" if state.fn is None else qualified_name(state.fn)
        stacking.mark(exc, retrying, name, state.attempt_number, now())
    if retrying.retry_error_callback:
        return await _ask(retrying.retry_error_callback, state)
    error = retrying.retry_error_cls(outcome)
    if retrying.reraise:
        error.reraise()
    raise error from exc
