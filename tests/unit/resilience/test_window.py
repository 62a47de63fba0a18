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


@pytest.mark.parametrize(("kind", "size"), [(CountWindow, 1000), (TimeWindow, 10)])
def test_nothing_is_kept_of_single_calls(kind: type[CountWindow | TimeWindow], size: int) -> None:
    window = kind(size)
    for number in range(3000):
        window.record(number / 1000, number % 2 == 0, number % 4 == 0)
    assert totals(window) == ((1000, 500, 250) if kind is CountWindow else (3000, 1500, 750))
