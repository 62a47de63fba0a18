"""Windows of samples against a naive model that keeps every sample."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.samples import Observed, SampleWindow

steps = st.tuples(
    st.sampled_from(["answer", "answer", "answer", "drop"]),
    st.floats(0, 1.5) | st.sampled_from([0.01, 0.00005]),  # the round trip
    st.integers(1, 30),  # in flight
    st.sampled_from([0.0, 0.01, 0.2, 0.4]),  # time since the last one
)


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, min_size=25, max_size=80))
def test_a_window_closes_after_its_time_and_ten_samples_and_tells_their_mean(
    script: list[tuple[str, float, int, float]],
) -> None:
    window = SampleWindow()
    now = 100.0
    end: float | None = None
    kept: list[tuple[float | None, int]] = []
    for kind, round_trip, in_flight, passed in script:
        now += passed
        if kind == "answer" and round_trip < 0.0001:
            assert not window.answer(round_trip, in_flight, now)
            continue
        full = window.answer(round_trip, in_flight, now) if kind == "answer" else window.drop(in_flight, now)
        kept.append((round_trip if kind == "answer" else None, in_flight))
        first = end is None
        end = now + 1 if end is None else end
        assert full is (not first and now >= end and len(kept) >= 10)
        if full:
            times = [time for time, _ in kept if time is not None]
            observed = window.close(now, 0.25)
            assert observed.round_trip == (pytest.approx(sum(times) / len(times)) if times else None)
            assert observed.in_flight == max(count for _, count in kept)
            assert observed.dropped is ((len(kept) - len(times)) / len(kept) > 0.01)
            assert observed.chance == 0.25
            end = now + (max(1, 2 * min(times)) if times else 1)
            kept = []


def test_one_drop_in_a_hundred_is_tolerated_and_two_are_not() -> None:
    for drops, dropped in ((1, False), (2, True)):
        window = SampleWindow()
        for _ in range(100 - drops):
            window.answer(0.01, 1, 0.0)
        for _ in range(drops):
            window.drop(1, 0.0)
        assert window.close(1.0, 0.0) == Observed(pytest.approx(0.01), 1, dropped, 0.0)  # type: ignore[arg-type]


def test_a_window_lasts_for_two_of_the_shortest_round_trips_of_the_one_before() -> None:
    window = SampleWindow()
    assert [window.answer(3.0, 1, 0.5 * at) for at in range(10)] == [False] * 9 + [True]
    window.close(4.5, 0.0)
    assert [window.answer(3.0, 1, at) for at in [4.6] * 10 + [10.4, 10.5]] == [False] * 11 + [True]


def test_ten_samples_at_once_do_not_end_a_window() -> None:
    window = SampleWindow()
    assert [window.answer(0.01, 1, at) for at in [0.0] * 15 + [0.9, 1.0]] == [False] * 16 + [True]
    window.close(1.0, 0.0)
    assert [window.drop(1, at) for at in [1.0] * 15 + [1.9, 2.0]] == [False] * 16 + [True]


def test_calls_that_were_dropped_tell_no_round_trip_and_the_next_window_is_a_second() -> None:
    window = SampleWindow()
    assert [window.drop(7, at) for at in [0.0] * 9 + [1.0]] == [False] * 9 + [True]
    assert window.close(1.0, 0.5) == Observed(None, 7, dropped=True, chance=0.5)
    assert [window.drop(7, at) for at in [1.0] * 9 + [2.0]] == [False] * 9 + [True]


def test_a_window_without_samples_tells_of_nothing() -> None:
    assert SampleWindow().close(1.0, 0.5) == Observed(None, 0, dropped=False, chance=0.5)
