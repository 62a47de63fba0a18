"""How long to wait: the ADR's figures, the cap, and the ranges of the jitter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.backoff import (
    MARGIN,
    Jitter,
    decorrelated,
    exponential,
    jittered,
    not_before,
)

SECONDS = st.floats(0.001, 1000.0)
CHANCES = st.floats(0.0, 1.0, exclude_max=True)


def test_the_adrs_waits_are_1_2_4_and_at_most_10_seconds() -> None:
    assert [exponential(attempt, 1.0, 2.0, 10.0) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(
    attempt=st.integers(1, 100_000),
    multiplier=st.floats(0, 1e6),
    base=st.floats(1, 1e6),
    cap=st.floats(0, 1e6),
)
def test_a_wait_never_exceeds_its_cap_and_never_shrinks(
    attempt: int, multiplier: float, base: float, cap: float
) -> None:
    wait = exponential(attempt, multiplier, base, cap)
    assert 0 <= wait <= cap
    assert exponential(attempt + 1, multiplier, base, cap) >= wait


@pytest.mark.parametrize("base", [2, 2.0])
def test_a_power_beyond_all_numbers_is_the_cap(base: float) -> None:
    assert exponential(100_000, 0.001, base, 10.0) == 10.0
    assert exponential(100_000, 0.0, base, 10.0) == 0.0


@given(seconds=SECONDS, chance=CHANCES)
def test_full_jitter_is_anywhere_below_the_wait(seconds: float, chance: float) -> None:
    assert 0 <= jittered(seconds, "full", chance) < seconds


@given(seconds=SECONDS, chance=CHANCES)
def test_equal_jitter_keeps_at_least_half_of_the_wait(seconds: float, chance: float) -> None:
    assert seconds / 2 <= jittered(seconds, "equal", chance) <= seconds


@given(seconds=SECONDS, chance=CHANCES)
def test_without_jitter_the_wait_is_the_wait(seconds: float, chance: float) -> None:
    assert jittered(seconds, "none", chance) == seconds


@pytest.mark.parametrize(("jitter", "lowest", "highest"), [("full", 0.0, 0.99), ("equal", 0.5, 0.995)])
def test_jitter_uses_its_whole_range(jitter: Jitter, lowest: float, highest: float) -> None:
    assert (jittered(1.0, jitter, 0.0), jittered(1.0, jitter, 0.99)) == (lowest, highest)


@given(previous=st.none() | SECONDS, least=SECONDS, cap=SECONDS, chance=CHANCES)
def test_decorrelated_jitter_is_between_the_least_and_three_times_the_wait_before(
    previous: float | None, least: float, cap: float, chance: float
) -> None:
    wait = decorrelated(previous, least, cap, chance)
    assert min(least, cap) <= wait <= min(cap, max(least, 3 * (previous or least)) * (1 + 1e-12))


def test_decorrelated_jitter_is_awss_formula() -> None:
    # sleep = min(cap, random_between(base, sleep * 3)), with sleep = base at the start
    assert [decorrelated(previous, 1.0, 10.0, 0.5) for previous in (None, 2.0, 9.0)] == [2.0, 3.5, 10.0]
    assert decorrelated(None, 0.25, 10.0, 0.5) == 0.5


@given(asked=SECONDS, longest=SECONDS, chance=CHANCES)
def test_who_asked_for_a_wait_is_not_asked_early_nor_by_all_at_once(
    asked: float, longest: float, chance: float
) -> None:
    wait = not_before(asked, longest, chance)
    assert asked <= wait <= max(asked, longest)
    assert wait <= asked * 1.05 + MARGIN


def test_a_wait_of_nothing_has_no_margin() -> None:
    assert not_before(0.0, 60.0, 0.9) == 0.0
    assert not_before(1.0, 60.0, 0.0) == 1.0 + MARGIN
    assert not_before(10.0, 60.0, 0.5) == pytest.approx(10.25 + MARGIN)
