"""The windows against lists of calls that are counted anew each time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.window import CountWindow, TimeWindow, Window

Ended = tuple[float, bool, bool]

# Steps of a quarter of a bucket, so that every side of every edge is met and no float is rounded.
calls = st.lists(
    st.tuples(st.integers(0, 60).map(lambda n: n / 4), st.booleans(), st.booleans()), max_size=40
)


def totals(window: Window) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slow


def counted(ended: list[Ended]) -> tuple[int, int, int]:
    return len(ended), sum(failed for _, failed, _ in ended), sum(slow for _, _, slow in ended)


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 12), ended=calls)
def test_a_count_window_holds_the_last_calls(size: int, ended: list[Ended]) -> None:
    window = CountWindow(size)
    for number, (pause, failed, slow) in enumerate(ended, 1):
        window.advance(pause)
        window.record(pause, failed, slow)
        assert window.seen(1e9) == totals(window)
        assert totals(window) == counted(ended[:number][-size:])


@settings(max_examples=50, deadline=None)
@given(pauses=calls, start=st.sampled_from([0.0, 3.0, 1e6]))
def test_a_time_window_holds_the_calls_of_this_tenth_and_the_nine_before(
    pauses: list[Ended], start: float
) -> None:
    window, now = TimeWindow(10.0), start
    ended: list[Ended] = []
    for pause, failed, slow in pauses:
        now += pause
        assert window.seen(now) == counted([call for call in ended if now // 1 - call[0] // 1 < 10])
        assert window.seen(now - 100) == totals(window)  # another clock: nothing newer is known
        window.advance(now)
        assert totals(window) == counted([call for call in ended if now // 1 - call[0] // 1 < 10])
        window.record(now, failed, slow)
        ended.append((now, failed, slow))
        assert totals(window) == counted([call for call in ended if now // 1 - call[0] // 1 < 10])


def test_a_call_that_another_thread_overtook_is_counted_in_the_newest_tenth() -> None:
    window = TimeWindow(10.0)
    window.record(25.0, True, False)
    window.record(24.9, True, True)
    assert totals(window) == (2, 2, 1)
    window.advance(34.9)
    assert totals(window) == (2, 2, 1)
    window.advance(35.0)
    assert totals(window) == (0, 0, 0)


def test_all_calls_of_a_tenth_leave_together() -> None:
    window = TimeWindow(10.0)
    for _ in range(2):
        window.record(0.5, True, True)
    window.record(1.0, True, True)
    window.advance(10.0)
    assert totals(window) == (1, 1, 1)


@pytest.mark.parametrize(
    ("now", "seen"),
    [
        (9.0, (10, 5, 3)),
        (9.9, (10, 5, 3)),
        (10.0, (9, 5, 3)),
        (11.5, (8, 4, 3)),
        (17.9, (2, 1, 2)),
        (18.0, (1, 1, 1)),
        (18.9, (1, 1, 1)),  # the last tenth that has the newest call in view
        (19.0, (0, 0, 0)),
        (1e6, (0, 0, 0)),
        *((now, (10, 5, 3)) for now in (8.0, 7.0, 6.0, -100.0)),  # another clock
    ],
)
def test_who_looks_sees_what_will_have_left_and_changes_nothing(
    now: float, seen: tuple[int, int, int]
) -> None:
    window = TimeWindow(10.0)
    for tenth in range(10):
        window.record(tenth + 0.5, tenth % 2 == 1, tenth > 6)
    assert window.seen(now) == seen
    assert totals(window) == (10, 5, 3)


def test_who_looks_before_the_first_call_sees_nothing() -> None:
    assert TimeWindow(10.0).seen(5.0) == (0, 0, 0)


@pytest.mark.parametrize(("kind", "size"), [(CountWindow, 1000), (TimeWindow, 10)])
def test_nothing_is_kept_of_single_calls(kind: type[CountWindow | TimeWindow], size: int) -> None:
    window = kind(size)
    for number in range(3000):
        window.record(number / 1000, number % 2 == 0, number % 4 == 0)
    assert totals(window) == ((1000, 500, 250) if kind is CountWindow else (3000, 1500, 750))
