"""CPython's own tests of ``asyncio.timeout``, from the interpreter that runs us, with `timeout` in its place."""

from __future__ import annotations

import asyncio
import importlib
import unittest

import pytest

from mcp_server_langgraph.resilience import TimedOut, timeout

SUITE = "test.test_asyncio.test_timeouts"


def test_cpythons_tests_of_its_timeout_pass_with_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        module = importlib.import_module(SUITE)
    except ModuleNotFoundError as exc:
        pytest.skip(f"this interpreter comes without its tests ({exc})")
    made: list[timeout] = []

    def ours(seconds: float | None) -> timeout:
        made.append(timeout(seconds))
        return made[-1]

    monkeypatch.setattr(asyncio, "timeout", ours)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = suite.run(unittest.TestResult())
    told = [f"{test}\n{text}" for test, text in (*result.failures, *result.errors)]
    assert not told, "\n".join(told)
    assert result.testsRun >= 30
    assert len(made) >= 20


async def test_what_was_raised_because_of_a_cut_says_so() -> None:
    """As CPython's tests of 3.13 want it of asyncio's; here on every version."""

    async def cut() -> None:
        async with timeout(1, name="block"):
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError as cancelled:
                try:
                    raise KeyError
                except KeyError as exc:
                    raise ExceptionGroup("several", [exc, ValueError()]) from cancelled

    with pytest.raises(ExceptionGroup) as caught:
        await cut()
    error = caught.value.exceptions[0].__context__
    assert isinstance(error, TimedOut)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert (error.pipeline, error.seconds) == ("block", 1)
    assert caught.value.exceptions[1].__context__ is None
