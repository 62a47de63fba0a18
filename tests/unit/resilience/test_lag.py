"""The door of an overloaded process against a naive model that keeps every call and searches for the threshold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.lag import Door, MeanDelay

Window = tuple[list[tuple[int, float]], float, float]
windows = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1, exclude_max=True)), max_size=30),
        st.floats(0, 20) | st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0, 1.1, 5.0]),
        st.sampled_from([1.0, 1.0, 1.5, 60.0]),
    ),
    min_size=8,
    max_size=25,
)


def passing(levels: list[int], threshold: float) -> float:
    """How many of them pass on average."""
    parts = [level + 1 - threshold for level in levels]
    return sum(min(part, 1) for part in parts if part > 0)


def lowest(levels: list[int], wanted: float) -> float:
    """The lowest threshold at which no more than ``wanted`` pass, by bisection."""
    if passing(levels, 0) <= wanted:
        return 0
    low, high = 0.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if passing(levels, middle) <= wanted else (middle, high)
    return high


@settings(max_examples=50, deadline=None)
@given(windows)
def test_a_window_moves_the_threshold_as_the_model_says(script: list[Window]) -> None:
    door = Door(4)
    now = 5.0
    expected, calm = 0.0, 0
    assert not door.due(now)
    for calls, delay, passed in script:
        now += passed
        assert [door.lets_in(*call) for call in calls] == [
            level + chance >= expected for level, chance in calls
        ]
        levels = [level for level, _ in calls]
        calm = calm + 1 if delay < 0.5 else 0
        let_in = passing(levels, expected)
        if passed > 11 or (calm and not calls):
            expected = 0
        elif delay > 1 and calls:
            expected = max(expected, lowest(levels, let_in * (1 - min(0.5, delay / 20))))
        elif calm:
            expected = min(expected, lowest(levels, let_in + len(calls) * calm / 100))
        assert door.due(now)
        door.close(now, delay)
        assert not door.due(now)
        assert door.threshold == pytest.approx(expected, abs=1e-6)
        expected = door.threshold


def test_a_window_ends_after_a_second_or_two_thousand_calls() -> None:
    door = Door(4)
    assert not door.due(3.0)
    assert (door.due(3.99), door.due(4.0)) == (False, True)
    for _ in range(1999):
        door.lets_in(2, 0.5)
    assert not door.due(3.5)
    door.lets_in(2, 0.5)
    assert door.due(3.5)


def test_delays_are_averaged_in_parts_of_what_is_allowed() -> None:
    delays = MeanDelay(0.02)
    assert delays.last == 0
    for seconds in (0.01, 0.09, 0.05):
        delays.add(seconds)
    assert delays.close() == pytest.approx(2.5)
    assert delays.last == pytest.approx(0.05)
    assert (delays.close(), delays.last) == (0, 0)


def half_closed() -> Door:
    """A door of one level that lets half of its calls in, at 1 s."""
    door = Door(1)
    door.due(0.0)
    a_window_ends(door, 1.0, delay=10.0)
    assert door.threshold == pytest.approx(0.5)
    return door


def a_window_ends(door: Door, now: float, delay: float) -> None:
    for _ in range(100):
        door.lets_in(0, 0.5)
    door.close(now, delay)


def test_each_calm_window_in_a_row_opens_it_by_one_percent_more() -> None:
    door = half_closed()
    thresholds = []
    for now in (2.0, 3.0, 4.0):
        a_window_ends(door, now, delay=0.1)
        thresholds.append(door.threshold)
    assert thresholds == pytest.approx([0.49, 0.47, 0.44])
    a_window_ends(door, 5.0, delay=0.7)
    a_window_ends(door, 6.0, delay=0.1)
    assert door.threshold == pytest.approx(0.43), "the row was broken"


def test_the_next_window_begins_at_the_end_of_the_last_one_though_nobody_comes() -> None:
    door = half_closed()
    assert door.due(2.0)


def test_what_was_measured_ten_seconds_ago_still_counts_and_later_no_more() -> None:
    for now, threshold in ((12.0, 0.75), (12.01, 0.0)):
        door = half_closed()  # its window ends at 2 s
        a_window_ends(door, now, delay=10.0)
        assert door.threshold == pytest.approx(threshold)
