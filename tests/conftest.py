"""For every test: a fresh registry, and for an ``async def`` a loop; ``events`` for those that ask for them.

The loop's time is virtual, or real where a test is marked ``real_time``: then it stands still while the machine does
not let the process run. With ``like_the_server`` it is a loop of the kind that the server runs on.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from mcp_server_langgraph.resilience import Event, registry, subscribe
from mcp_server_langgraph.resilience.testing import run
from tests.support.own_time import OwnTime, OwnTimeLoop

pytest_plugins = ["tests.support.report", "tests.support.services"]

AsyncTest = Callable[..., Coroutine[Any, Any, object]]

REAL_TIME_LIMIT = 120.0
"""Seconds; ``@pytest.mark.real_time(limit=...)`` sets another."""

# How long an example takes is the machine's affair: one pause of it is no failure. The examples are the same in every
# run; others are tried with --hypothesis-profile=explore.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tests", settings.get_profile("explore"), derandomize=True)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    """No pipeline, breaker or setting of another test."""
    registry.reset()
    yield
    registry.reset()


@pytest.fixture(scope="module", autouse=True)
def no_client_outlives_its_tests() -> Iterator[None]:
    """Google's clients start a task when they are collected in a running loop: in the next file's, if not before."""
    yield
    if "google.genai" in sys.modules:
        gc.collect()


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """What is told while the test runs."""
    told: list[Event] = []
    unsubscribe = subscribe(told.append)
    yield told
    unsubscribe()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = inspect.signature(pyfuncitem.obj).parameters
        _runner(pyfuncitem)(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
    _run_each_hypothesis_example(pyfuncitem)
    return None


def _run_each_hypothesis_example(pyfuncitem: pytest.Function) -> None:
    """``@given`` wraps the coroutine function and calls it once an example: each gets a loop of its own."""
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = _as_function(given.inner_test, _runner(pyfuncitem))


def _as_function(
    test: AsyncTest, runner: Callable[[Coroutine[Any, Any, object]], object]
) -> Callable[..., None]:
    @functools.wraps(test)
    def call(*args: Any, **kwargs: Any) -> None:
        runner(test(*args, **kwargs))

    return call


def _runner(pyfuncitem: pytest.Function) -> Callable[[Coroutine[Any, Any, object]], object]:
    mark = pyfuncitem.get_closest_marker("real_time")
    if mark is None:
        return functools.partial(run, strict=True)
    return functools.partial(_run_in_real_time, **mark.kwargs)


def _run_in_real_time(
    test: Coroutine[Any, Any, object], limit: float = REAL_TIME_LIMIT, like_the_server: bool = False
) -> None:
    async def main() -> list[str]:
        async with asyncio.timeout(limit):
            await test
        return await _leftovers()

    with OwnTime() as clock:
        factory = _servers_loop() if like_the_server else functools.partial(OwnTimeLoop, clock)
        with asyncio.Runner(loop_factory=factory) as runner:
            leftovers = runner.run(main())
    assert not leftovers, f"tasks were left pending: {leftovers}"


def _servers_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    from mcp_server_langgraph.server.main import (
        loop_factory,
    )  # takes a second to import, and few tests need it

    return loop_factory()


async def _leftovers() -> list[str]:
    """The tasks that do not end by themselves within a second; transports need some turns to close."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, others = await asyncio.wait(others, timeout=1.0)
    return sorted(repr(task) for task in others)
