"""The settings of hedges: what is allowed, which one wins, and that a change keeps what is known."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from mcp_server_langgraph.resilience import (
    Budget,
    ConfigurationError,
    Hedge,
    Pipeline,
    Retry,
    Settings,
    Timeout,
    registry,
)
from mcp_server_langgraph.resilience.config import install
from tests.support.attempts import Attempt, Attempts


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"delay": 0}, "delay=0 must be a number of seconds above 0"),
        ({"delay": math.inf}, "delay=inf"),
        ({"quantile": 0}, "quantile=0 must be above 0 and below 1"),
        ({"quantile": 1.0}, "quantile=1.0"),
        ({"delay": 1, "quantile": 0.9}, "exclude each other"),
        ({"max_hedges": -1}, "max_hedges=-1 must be a whole number of at least 0"),
        ({"max_hedges": 1.5}, "max_hedges=1.5"),
        ({"min_samples": 0}, "min_samples=0 must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_right_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem.replace("(", r"\(")):
        Hedge(**options)


def test_the_defaults() -> None:
    assert Hedge().settings() == {"quantile": 0.95, "max_hedges": 1}
    assert Hedge(2.0).settings() == {"delay": 2.0, "max_hedges": 1}
    assert (Hedge().budget.ratio, Hedge().budget.per_second) == (0.05, 0.1)


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({"HEDGE_DELAY": "2"}, {}, {"delay": 2.0, "max_hedges": 1}),
        ({"HEDGE_DELAY": "2"}, {"delay": 1.0}, {"delay": 1.0, "max_hedges": 1}),
        ({"HEDGE_DELAY": "2"}, {"quantile": 0.9}, {"quantile": 0.9, "max_hedges": 1}),
        ({"SVC_HEDGE_DELAY": "2"}, {"quantile": 0.9}, {"delay": 2.0, "max_hedges": 1}),
        ({"HEDGE_QUANTILE": "0.99", "HEDGE_MAX": "2"}, {}, {"quantile": 0.99, "max_hedges": 2}),
        ({"SVC_HEDGE_MAX": "0"}, {"max_hedges": 3}, {"quantile": 0.95, "max_hedges": 0}),
    ],
)
def test_the_service_wins_over_code_and_code_over_the_environment(
    environ: dict[str, str], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    install(Settings(environ))
    hedge = Hedge(**options)
    Pipeline("svc", hedge)
    assert hedge.settings() == expected


@pytest.mark.parametrize("wrong", ["HEDGE_DELAY=0", "HEDGE_QUANTILE=1", "HEDGE_QUANTILE=95", "HEDGE_MAX=-1"])
def test_a_wrong_setting_is_refused(wrong: str) -> None:
    name, _, value = wrong.partition("=")
    with pytest.raises(ConfigurationError, match=name):
        Settings({name: value})


async def test_a_reload_keeps_what_is_known_and_the_calls_in_flight() -> None:
    hedge = Hedge(budget=Budget.unlimited())
    pipeline = Pipeline("svc", hedge)
    for tenth in range(1, 41):
        await pipeline.call(Attempts(Attempt(tenth / 10)))
    assert hedge.snapshot().delay == pytest.approx(3.8, rel=0.04)
    call = asyncio.ensure_future(pipeline.call(Attempts(Attempt(60), Attempt(0.5))))
    await asyncio.sleep(1)
    registry.reload({"HEDGE_QUANTILE": "0.5"})
    assert hedge.snapshot().delay == pytest.approx(2.0, rel=0.04)
    assert await call == 1


def test_a_shared_budget_is_reloaded_and_one_of_its_own_stays_as_it_is() -> None:
    shared = Budget()
    own, sharing = Hedge(), Hedge(budget=shared)
    pipelines = Pipeline("svc", own), Pipeline("svc", sharing)
    registry.reload({"RETRY_BUDGET_RATIO": "0.3"})
    assert (own.budget.ratio, shared.ratio) == (0.05, 0.3)
    del pipelines


def test_the_worst_case_counts_every_hedge() -> None:
    def cost(*policies: Any) -> tuple[int, float]:
        told = Pipeline("svc", *policies).describe()
        return told["requests"], told["seconds"]

    inside = Retry(2, multiplier=0.0, retry_after_max=0.0), Timeout(5)
    assert cost(Hedge(1.0, max_hedges=2), Timeout(5))[0] == 3
    assert cost(inside[0], Hedge(1.0), inside[1]) == (4, 12.0)
    assert cost(Retry(2, multiplier=0.0, retry_after_max=0.0), Hedge(), Timeout(5)) == (4, 20.0)


def test_the_metrics_carry_the_name_of_the_first_pipeline_or_ones_own() -> None:
    unnamed, named = Hedge(), Hedge(name="mine")
    for policy in (unnamed, named):
        Pipeline("first", policy)
        Pipeline("second", policy)
    assert [policy.name for policy in (unnamed, named)] == ["first", "mine"]
    assert repr(unnamed) == "Hedge(quantile=0.95, max_hedges=1)"
