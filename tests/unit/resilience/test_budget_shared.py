"""What the budget's machine makes of the traffic of others, and of a floor that it shares with them."""

from __future__ import annotations

from mcp_server_langgraph.resilience._machines.budget import RESERVE, Allowance

WINDOW = 10.0


def granted(allowance: Allowance, now: float) -> int:
    return sum(allowance.take(now, 0) for _ in range(100))


def test_the_traffic_of_others_counts_in_the_share_and_so_does_what_they_spent() -> None:
    allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
    allowance.told(5.0, 100, 0)
    assert granted(allowance, 5.0) == 19
    allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
    allowance.told(5.0, 100, 10)
    assert granted(allowance, 5.0) == 9


def test_the_traffic_of_others_came_at_the_time_at_which_they_told() -> None:
    for now, there in ((14.99, 19), (15.0, 0)):
        allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
        allowance.told(5.0, 100, 0)
        assert granted(allowance, now) == there


def test_what_others_spent_came_back_a_window_after_they_told() -> None:
    for now, there in ((14.99, 9), (15.0, 19)):
        allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
        allowance.told(5.0, 0, 10)
        allowance.told(8.0, 100, 0)
        assert granted(allowance, now) == there


def test_word_that_comes_late_by_another_thread_is_of_now() -> None:
    allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
    allowance.look(7.0, 0)
    allowance.told(5.0, 100, 10)
    assert granted(allowance, 16.99) == 9
    assert granted(allowance, 17.0) == 0


def test_word_of_nothing_changes_nothing() -> None:
    allowance = Allowance(0.2, 0.0, WINDOW, began=0.0)
    allowance.told(5.0, 0, 0)
    assert granted(allowance, 5.0) == 0


def test_a_divided_floor_comes_in_more_slowly() -> None:
    allowance = Allowance(0.0, 1.0, 10.0, 0.0)
    allowance.sharers = 4
    for _ in range(int(RESERVE)):
        assert allowance.take(0.0, 0)
    assert not allowance.take(3.9, 0)
    assert allowance.take(4.0, 0)


def test_a_floor_is_one_for_all_who_share_it() -> None:
    allowance = Allowance(0.0, 1.0, 10.0, 0.0)
    allowance.told(0.0, 0, 10)
    assert not allowance.take(0.0, 0)
    assert allowance.take(10.0, 0)
