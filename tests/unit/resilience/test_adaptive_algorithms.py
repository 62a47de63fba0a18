"""The algorithms of adaptive limits, each against a naive reading of its source that keeps everything it was told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.aimd import AIMD
from mcp_server_langgraph.resilience._machines.gradient import Gradient2
from mcp_server_langgraph.resilience._machines.samples import Observed
from mcp_server_langgraph.resilience._machines.vegas import Vegas

observations = st.lists(
    st.builds(
        Observed,
        round_trip=st.none() | st.floats(0.001, 2.0) | st.sampled_from([0.01, 0.012, 0.05]),
        in_flight=st.integers(0, 250),
        dropped=st.sampled_from([False, False, False, True]),
        chance=st.floats(0, 1, exclude_max=True),
    ),
    min_size=20,
    max_size=60,
)
bounds = st.tuples(st.integers(1, 30), st.integers(0, 200)).map(lambda pair: (pair[0], sum(pair)))


def held(value: float, least: int, most: int) -> float:
    return least if value < least else min(value, most)


def told(seen: list[float], windows: int) -> list[float]:
    """The usual round trip before the decay of each window, from all round trips so far."""
    means: list[float] = []
    mean = 0.0
    for count, value in enumerate(seen, 1):
        weight = 1 / count if count <= 10 else 2 / (windows + 1)
        mean = sum(seen[:count]) / count if count <= 10 else mean * (1 - weight) + value * weight
        means.append(mean)
        if mean > 2 * value:
            mean *= 0.95
    return means


@settings(max_examples=50, deadline=None)
@given(observations, bounds, st.sampled_from([4, None]), st.sampled_from([20, 600]))
def test_gradient2_does_what_its_source_says(
    script: list[Observed], limits: tuple[int, int], queue: float | None, windows: int
) -> None:
    least, most = limits
    machine = Gradient2(20, least, most, queue=queue, long_window=windows)
    expected = held(20, least, most)
    seen: list[float] = []
    for observed in script:
        if observed.round_trip is not None:
            seen.append(observed.round_trip)
        if observed.dropped:
            expected = held(expected * 0.9, least, most)
        elif observed.in_flight * 2 >= expected:
            ratio = 1.5 * told(seen, windows)[-1] / seen[-1] if observed.round_trip is not None else 0.5
            extra = queue if queue is not None else expected**0.5
            target = expected * min(1, max(0.5, ratio)) + extra
            expected = held(expected + (target - expected) / 5, least, most)
        machine.update(observed)
        assert machine.limit == pytest.approx(expected)


def digits(limit: float) -> int:
    return max(1, len(str(int(limit))) - 1)


@settings(max_examples=50, deadline=None)
@given(observations, bounds, st.floats(0, 1, exclude_max=True))
def test_vegas_does_what_its_source_says(
    script: list[Observed], limits: tuple[int, int], chance: float
) -> None:
    least, most = limits
    machine = Vegas(20, least, most, chance=chance)
    expected = held(20, least, most)
    best: list[float] = []
    since, factor = 0, 0.5 + chance / 2
    for observed in script:
        since += 1
        now = observed.round_trip
        if now is not None and since >= factor * 30 * expected:
            best, since, factor = [now], 0, 0.5 + observed.chance / 2
        elif now is not None and (not best or now < min(best)):
            best.append(now)
        elif observed.dropped:
            expected = held(expected - digits(expected), least, most)
        elif now is not None and observed.in_flight >= expected / 2:
            step = digits(expected)
            waiting = math.ceil(expected * (1 - min(best) / now))
            cases = [(waiting <= step, 6), (waiting < 3 * step, 1), (waiting <= 6 * step, 0), (True, -1)]
            expected = held(expected + step * next(by for is_so, by in cases if is_so), least, most)
        machine.update(observed)
        assert machine.limit == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(observations, bounds)
def test_aimd_does_what_its_source_says(script: list[Observed], limits: tuple[int, int]) -> None:
    least, most = limits
    machine = AIMD(20, least, most)
    expected = held(20, least, most)
    for observed in script:
        busy = observed.in_flight / expected >= 0.5
        expected = held(expected * 0.9 if observed.dropped else expected + busy, least, most)
        machine.update(observed)
        assert machine.limit == pytest.approx(expected)


def test_vegas_measures_the_shortest_round_trip_anew_when_a_dependency_has_become_slower_for_good() -> None:
    machine = Vegas(20, 1, 100, chance=0.0)
    machine.update(Observed(0.01, 20, dropped=False, chance=0.0))
    for _ in range(40):
        machine.update(Observed(0.05, 100, dropped=False, chance=0.0))
    assert machine.limit < 10  # it takes the slowness for a queue
    for _ in range(200):
        machine.update(Observed(0.05, 100, dropped=False, chance=0.0))
    assert machine.limit > 10


def test_gradient2_comes_back_quickly_from_a_long_overload() -> None:
    machine = Gradient2(20, 1, 200)
    for _ in range(2000):
        machine.update(Observed(1.0, 200, dropped=False, chance=0.0))
    for _ in range(60):
        machine.update(Observed(0.01, 0, dropped=False, chance=0.0))
    assert machine.usual.value < 0.05


@pytest.mark.parametrize("make", [Gradient2, Vegas, AIMD])
def test_drops_alone_bring_the_limit_down_though_nobody_is_answered(make: Any) -> None:
    machine = make(20, 1, 200)
    for _ in range(60):
        machine.update(Observed(None, 20, dropped=True, chance=0.0))
    assert machine.limit < 5


@pytest.mark.parametrize("make", [Gradient2, Vegas, AIMD])
def test_new_bounds_hold_at_once(make: Any) -> None:
    machine = make(20, 1, 200)
    machine.bound(30, 40)
    assert machine.limit == 30
    machine.bound(1, 10)
    assert machine.limit == 10
    for _ in range(3):
        machine.update(Observed(0.01, 20, dropped=False, chance=0.0))
    assert machine.limit == 10


@pytest.mark.parametrize(
    ("waiting", "moved"), [(0.5, 6), (0.9, 6), (1.1, 1), (1.9, 1), (2.9, 0), (5.9, 0), (6.1, -1)]
)
def test_vegas_moves_by_how_many_wait_in_the_dependency(waiting: float, moved: int) -> None:
    machine = Vegas(20, 1, 100)
    machine.update(Observed(1.0, 20, dropped=False, chance=0.0))
    machine.update(Observed(20 / (20 - waiting), 20, dropped=False, chance=0.0))
    assert machine.limit == 20 + moved


@pytest.mark.parametrize("make", [Gradient2, Vegas, AIMD])
def test_half_of_the_limit_in_use_is_enough_to_move_it_and_less_is_not(make: Any) -> None:
    for in_flight, grows in ((10, True), (9, False)):
        machine = make(20, 1, 200)
        machine.update(Observed(0.01, 20, dropped=False, chance=0.0))
        before = machine.limit = 20.0
        machine.update(Observed(0.01, in_flight, dropped=False, chance=0.0))
        assert (machine.limit > before) is grows


@pytest.mark.parametrize(("waiting", "moved"), [(3, 18), (4, 3), (8, 3), (9, 0), (18, 0), (19, -3)])
def test_vegas_moves_a_limit_of_four_digits_by_three_times_as_much(waiting: int, moved: int) -> None:
    machine = Vegas(2000, 1, 5000)
    machine.update(Observed(1.0, 2000, dropped=False, chance=0.0))
    machine.update(Observed(2000 / (2000.5 - waiting), 2000, dropped=False, chance=0.0))
    assert machine.limit == 2000 + moved


def test_vegas_measures_anew_after_as_many_windows_as_the_limit_and_chance_say() -> None:
    machine = Vegas(20, 1, 100, chance=0.5)
    shortest = []
    for round_trip, windows in ((1.0, 1), (2.0, 448), (2.0, 1), (3.0, 299), (3.0, 1)):
        for _ in range(windows):
            machine.update(Observed(round_trip, 0, dropped=False, chance=0.0))
        shortest.append(machine.shortest)
    assert shortest == [1.0, 1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("make", "bounds"), [(Gradient2, (20, 20, 200)), (Vegas, (20, 1, 1000)), (AIMD, (20, 20, 200))]
)
def test_defaults_are_those_of_the_source(make: Any, bounds: tuple[int, int, int]) -> None:
    machine = make()
    assert (machine.limit, machine.least, machine.most) == bounds


def test_vegas_measures_anew_as_soon_as_may_be_where_no_chance_is_given() -> None:
    assert Vegas().jitter == Vegas(chance=0.0).jitter


def test_gradient2_lets_four_wait_and_learns_the_usual_from_six_hundred_windows() -> None:
    machine = Gradient2()
    machine.update(Observed(1.0, 20, dropped=False, chance=0.0))
    assert machine.limit == pytest.approx(20 + 4 * 0.2)
    for round_trip in [1.0] * 9 + [2.0]:
        machine.update(Observed(round_trip, 0, dropped=False, chance=0.0))
    assert machine.usual.value == pytest.approx(1 + 2 / 601)


def test_gradient2_forgets_faster_only_where_the_usual_is_more_than_twice_the_present() -> None:
    for first, usual in ((3.0, 2.0), (3.5, 2.25 * 0.95)):
        machine = Gradient2()
        for round_trip in (first, 1.0):
            machine.update(Observed(round_trip, 0, dropped=False, chance=0.0))
        assert machine.usual.value == pytest.approx(usual)
