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
    for seconds in (0.01, 0.09, 0.05):
        delays.add(seconds)
    assert delays.close() == pytest.approx(2.5)
    assert delays.last == pytest.approx(0.05)
    assert (delays.close(), delays.last) == (0, 0)
