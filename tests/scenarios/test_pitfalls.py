"""What went wrong in an earlier implementation of ADR-0030, row by row; each must not happen here.

Rows that concern one service stand with it: 3 and 21 in tests/auth, 6 and 22 in tests/llm and tests/auth, 18 in
tests/agent.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mcp_server_langgraph.resilience import (
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Pipeline,
    Retry,
    Timeout,
    Value,
    circuit_breaker,
    registry,
)


class Upstream:
    """Counts what reaches it, and fails as it is told."""

    def __init__(self, exc: BaseException | None = None) -> None:
        self.exc = exc
        self.reached = 0

    async def __call__(self, *args: object) -> str:
        self.reached += 1
        await asyncio.sleep(0.01)
        if self.exc is not None:
            raise self.exc
        return "fine"


class HTTPError(Exception):
    """An error as HTTP clients raise it."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(f"HTTP {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers)


def standard(**breaker: float) -> tuple[Pipeline, CircuitBreaker]:
    one = CircuitBreaker("up", **breaker)  # type: ignore[arg-type]
    return Pipeline("up", Bulkhead(200), Retry(3, jitter="none"), one, Timeout(5)), one


async def test_row_1_exactly_one_probe_reaches_a_dependency_that_is_still_down() -> None:
    pipeline, breaker = standard(fail_max=5, timeout=60)
    upstream = Upstream(ConnectionError())
    while breaker.state == "closed":
        with pytest.raises(ConnectionError):
            await pipeline.call(upstream)
    await asyncio.sleep(61)
    upstream.reached = 0
    results = await asyncio.gather(*(pipeline.call(upstream) for _ in range(50)), return_exceptions=True)
    assert upstream.reached == 1
    assert sum(isinstance(result, CircuitOpen) for result in results) == 49
    assert breaker.state == "open"


@pytest.mark.parametrize("mistake", [HTTPError(401), HTTPError(422), TypeError("a bug"), KeyError("a bug")])
async def test_row_2_what_the_caller_did_wrong_is_one_attempt_and_no_count(mistake: Exception) -> None:
    pipeline, breaker = standard(fail_max=1)
    upstream = Upstream(mistake)
    for _ in range(10):
        with pytest.raises(type(mistake)):
            await pipeline.call(upstream)
    assert upstream.reached == 10
    assert (breaker.state, breaker.snapshot().failures) == ("closed", {})


async def test_row_4_the_breaker_bounds_what_200_callers_do_to_a_dead_dependency() -> None:
    pipeline, _ = standard(fail_max=5)
    upstream = Upstream(ConnectionError())
    for _ in range(4):
        await asyncio.gather(*(pipeline.call(upstream) for _ in range(50)), return_exceptions=True)
    assert upstream.reached < 1.2 * 200


async def test_row_4_the_budget_bounds_what_200_callers_at_once_do_before_any_breaker_opens() -> None:
    upstream = Upstream(ConnectionError())
    pipeline = Pipeline("up", Retry(3))
    await asyncio.gather(*(pipeline.call(upstream) for _ in range(200)), return_exceptions=True)
    assert 200 < upstream.reached < 1.2 * 200


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_row_5_retry_after_is_honoured_and_the_original_error_comes_back(status: int) -> None:
    pipeline, _ = standard()
    refusal = HTTPError(status, **{"retry-after": "7"})
    upstream = Upstream(refusal)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(HTTPError) as caught:
        await pipeline.call(upstream)
    assert caught.value is refusal
    assert caught.value.response.headers["retry-after"] == "7"
    assert upstream.reached == 3
    assert loop.time() - began >= 14


async def test_row_5_a_wait_that_the_deadline_cannot_hold_is_not_begun() -> None:
    pipeline = Pipeline("up", Timeout(5), Retry(3), CircuitBreaker("up"))
    upstream = Upstream(HTTPError(429, **{"retry-after": "7"}))
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(HTTPError):
        await pipeline.call(upstream)
    assert (upstream.reached, loop.time() - began < 1) == (1, True)


async def test_row_8_the_bulkheads_numbers_are_exact_while_its_limit_changes() -> None:
    bulkhead = Bulkhead(3, max_queue=2)
    pipeline = Pipeline("up", bulkhead)
    gate = asyncio.Event()
    inside = 0

    async def held() -> None:
        nonlocal inside
        inside += 1
        await gate.wait()
        inside -= 1

    calls = [asyncio.ensure_future(pipeline.call(held)) for _ in range(7)]
    await asyncio.sleep(0.1)
    assert bulkhead.snapshot() == type(bulkhead.snapshot())(limit=3, active=3, queued=2, rejected=2)
    bulkhead.resize(4)
    await asyncio.sleep(0.1)
    assert (inside, bulkhead.snapshot().queued) == (4, 1)
    bulkhead.resize(1)
    assert (bulkhead.snapshot().limit, bulkhead.snapshot().active) == (1, 4)
    gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, BulkheadFull) for result in results) == 2
    assert bulkhead.snapshot().active == 0
    assert bulkhead.snapshot().limit == 1


async def test_row_9_every_switch_changes_behaviour() -> None:
    pipeline = Pipeline(
        "up", Fallback(Value("instead")), Retry(3, multiplier=0), CircuitBreaker("up", fail_max=3)
    )
    upstream = Upstream(ConnectionError())
    assert await pipeline.call(upstream) == "instead"
    assert upstream.reached == 3
    for switch in ("FF_ENABLE_RESILIENCE_PATTERNS", "UP_FF_ENABLE_RESILIENCE_PATTERNS"):
        registry.reload({switch: "false"})
        with pytest.raises(ConnectionError):
            await pipeline.call(upstream)
    assert upstream.reached == 5


async def test_row_10_settings_change_at_run_time_and_an_operator_overrules_code() -> None:
    @circuit_breaker(name="up", fail_max=100)
    async def guarded() -> None:
        raise ConnectionError

    registry.reload({"UP_CIRCUIT_BREAKER_FAIL_MAX": "2"})
    for expected in (ConnectionError, ConnectionError, CircuitOpen):
        with pytest.raises(expected):
            await guarded()


async def test_row_11_the_state_gauge_is_not_left_behind_after_recovery() -> None:
    pipeline, breaker = standard(fail_max=1, timeout=1, backoff=1)
    with pytest.raises(ConnectionError):
        await pipeline.call(Upstream(ConnectionError()))
    await asyncio.sleep(2)
    await pipeline.call(Upstream())
    (metric,) = (metric for metric in registry.metrics() if metric.name == "circuit_breaker_state")
    assert {labels[1] for labels, value in metric.samples.items() if value} == {"closed"}
    assert breaker.state == "closed"


def test_row_15_the_layer_imports_nothing_outside_the_standard_library() -> None:
    code = (
        "import sys, json, mcp_server_langgraph.resilience;"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    foreign = set(json.loads(loaded)) - sys.stdlib_module_names - {"mcp_server_langgraph", "__main__"}
    assert not {name for name in foreign if not name.startswith(("_", "sitecustomize", "distutils"))}


async def test_row_21_a_fallback_never_answers_for_a_bug_a_refusal_or_a_cancellation() -> None:
    pipeline = Pipeline(
        "permissions", Fallback(Value(True)), Retry(3, multiplier=0), CircuitBreaker("permissions")
    )
    for mistake in (
        TypeError("a bug in the check"),
        HTTPError(403),
        HTTPError(400),
        asyncio.CancelledError(),
    ):
        with pytest.raises(type(mistake)):
            await pipeline.call(Upstream(mistake))
    assert await pipeline.call(Upstream(ConnectionError())) is True
