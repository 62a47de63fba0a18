"""CoDel: when a line stands, and how long one may wait in it."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.resilience._machines.codel import CoDel


def test_a_line_is_stretched_to_the_length_of_round_trips_and_not_below_what_was_set() -> None:
    codel = CoDel(target=0.005, interval=0.1)
    codel.stretch(10.0)
    assert (codel.target, codel.interval) == (0.5, 10.0)
    codel.set(0.6, 1.0)
    assert (codel.target, codel.interval) == (0.6, 10.0)
    codel.set(0.005, 0.1)
    codel.stretch(0.01)
    assert (codel.target, codel.interval) == (pytest.approx(0.005), 0.1)


def test_a_line_may_stand_for_five_milliseconds_and_be_long_for_a_hundred() -> None:
    assert (CoDel().target, CoDel().interval) == (pytest.approx(0.005), 0.1)


def test_a_line_stands_when_it_was_not_empty_for_longer_than_an_interval() -> None:
    codel = CoDel(target=0.5, interval=4.0)
    codel.came(10.0)
    assert [codel.overloaded(at) for at in (14.0, 14.1)] == [False, True]


def test_a_line_that_all_gave_up_stands_for_one_interval_more() -> None:
    for back, stands in ((15.0, True), (15.1, False)):
        codel = CoDel(target=0.5, interval=4.0)
        codel.came(10.0)
        codel.emptied(11.0, served=False)
        assert codel.overloaded(back) is stands
        codel.came(back)
        assert codel.overloaded(back) is stands
