"""The quantile of recent values against sorted lists of them."""

from __future__ import annotations

import math
import random
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.quantile import ERROR, LEAST, MOST, Quantile

WINDOW = 8.0  # a power of two: the model's division and the machine's addition give the same windows

VALUES = st.floats(LEAST, MOST) | st.sampled_from([LEAST, 0.01, 0.0101, 1.0, MOST])
STEPS = st.tuples(st.sampled_from([0.0, 0.0, 0.0, 0.5, 5.0, 8.0, 20.0]), VALUES)


class Model:
    """Remembers everything, and sorts when asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def recent(self, now: float, without_last: int = 0) -> list[float]:
        window = now // WINDOW
        kept = self.seen[: len(self.seen) - without_last]
        return sorted(value for when, value in kept if when // WINDOW in (window, window - 1))

    def quantile(self, share: float, now: float, without_last: int = 0) -> float | None:
        values = self.recent(now, without_last)
        at_least = [v for n, v in enumerate(values, 1) if n >= share * len(values)]
        return at_least[0] if at_least else None


def close(told: float | None, true: float | None) -> bool:
    """Never below the true value (but for the last digits of a product), and not far above it."""
    if told is None or true is None:
        return told is true
    return true * (1 - 1e-9) <= told <= true * (1 + ERROR) * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(share=st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.999, 1.0]), steps=st.lists(STEPS, max_size=60))
def test_few_values_are_told_as_they_are_now(share: float, steps: list[tuple[float, float]]) -> None:
    machine, model, now = Quantile(share, WINDOW), Model(), 0.0
    for later, value in steps:
        now += later
        machine.add(value, now)
        model.seen.append((now, value))
        assert close(machine.known, model.quantile(share, now))
        assert close(machine.of(0.5), model.quantile(0.5, now))
        assert machine.total == len(model.recent(now))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.5, 0.95]))
def test_many_values_are_told_as_they_are_now_or_were_a_moment_ago(seed: int, share: float) -> None:
    chance = random.Random(seed)
    machine, model = Quantile(share, WINDOW), Model()
    for index in range(300):
        machine.add(value := chance.lognormvariate(-3, 2), 0.0)
        model.seen.append((0.0, min(max(value, LEAST), MOST)))
        ago = range(1 + index // 31)
        assert any(close(machine.known, model.quantile(share, 0.0, without_last)) for without_last in ago)


@given(value=st.floats(0, 1e9))
def test_what_is_out_of_range_counts_as_the_nearest_that_is_not(value: float) -> None:
    machine = Quantile(0.5, WINDOW)
    machine.add(value, 0.0)
    assert close(machine.known, min(max(value, LEAST), MOST))


def test_before_the_first_value_nothing_is_known_and_no_window_runs() -> None:
    machine = Quantile(0.5, WINDOW)
    assert (machine.known, machine.total, machine.ends) == (None, 0, -math.inf)
    assert (machine.of(0.5), machine.total) == (None, 0)


def test_the_answer_is_looked_for_when_a_32nd_part_of_the_values_is_new() -> None:
    machine, told = Quantile(0.5, WINDOW), []
    for _ in range(1000):
        machine.add(1.0, 0.0)
        told.append(machine.total)
    looks = [total for total, _ in groupby(told)]
    assert all(later == total + max(1, total // 32) for total, later in pairwise(looks))


def test_nothing_is_known_before_enough_values() -> None:
    machine = Quantile(0.5, WINDOW, enough=3)
    known = []
    for _ in range(3):
        machine.add(1.0, 0.0)
        known.append(machine.known is not None)
    assert known == [False, False, True]


def test_values_are_forgotten_when_nobody_brings_new_ones() -> None:
    machine = Quantile(0.5, WINDOW)
    machine.add(1.0, 7.0)
    assert machine.ends == 8.0
    machine.turn(8.0)
    assert machine.known is not None
    machine.turn(16.0)
    assert machine.known is None


def test_another_share_is_told_from_the_values_that_are_known() -> None:
    machine = Quantile(0.5, WINDOW)
    for value in (1.0, 2.0, 3.0, 4.0):
        machine.add(value, 0.0)
    machine.point_at(0.75)
    assert close(machine.known, 3.0)


@pytest.mark.parametrize("late", [15.9, 12.0, 8.0])
def test_a_thread_that_is_late_by_a_window_at_most_makes_nobody_forget(late: float) -> None:
    machine = Quantile(1.0, WINDOW)
    machine.add(5.0, 15.9)
    machine.add(1.0, 16.1)
    machine.add(1.0, late)
    assert (machine.total, close(machine.known, 5.0)) == (3, True)


def test_a_time_before_that_is_another_clock_s() -> None:
    machine = Quantile(1.0, WINDOW)
    machine.add(5.0, 16.0)
    machine.add(1.0, 7.9)
    assert (machine.total, close(machine.known, 1.0)) == (1, True)


def test_a_clock_that_began_anew_makes_it_forget_the_other_ones_values() -> None:
    machine = Quantile(1.0, WINDOW)
    machine.add(5.0, 1000.0)
    machine.add(1.0, 0.0)
    assert (machine.total, close(machine.known, 1.0)) == (1, True)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_it_follows_a_change_within_two_windows(share: float) -> None:
    machine = Quantile(share, WINDOW)
    for tick in range(1000):
        machine.add(0.010 if tick < 500 else 0.100, tick * 2 * WINDOW / 500)
    assert close(machine.known, 0.100)
