"""When a local model that died is started again."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.llm._local.restarts import LONGEST_WAIT, STEADY, Restarts


def test_the_first_death_is_followed_by_a_start_at_once() -> None:
    restarts = Restarts()
    assert restarts.wait(0.0) <= 0
    restarts.started(0.0)
    restarts.ended(5.0)
    assert restarts.wait(5.0) <= 0


def test_waits_double_while_it_keeps_dying_up_to_a_limit() -> None:
    restarts, now, waits = Restarts(), 0.0, []
    for _ in range(8):
        restarts.started(now)
        restarts.ended(now)
        waits.append(restarts.wait(now))
        now += max(0.0, waits[-1])
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_starts_that_fail_count_as_deaths() -> None:
    restarts = Restarts()
    for _ in range(3):
        restarts.ended(10.0)
    assert restarts.wait(10.0) == 2.0
    assert restarts.wait(12.0) == 0.0


def test_a_long_life_is_forgiven() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.ended(0.0)
    restarts.started(100.0)
    restarts.ended(100.0 + STEADY)
    assert restarts.wait(100.0 + STEADY) == 0.0
    restarts.ended(101.0 + STEADY)
    assert restarts.wait(101.0 + STEADY) == 1.0


def test_a_long_life_of_which_it_was_of_use_for_a_short_time_is_not_forgiven() -> None:
    restarts = Restarts()
    restarts.ended(0.0)
    restarts.started(100.0)
    restarts.ended(100.0 + STEADY, 99.0 + STEADY)
    assert restarts.wait(100.0 + STEADY) == 1.0
    restarts.started(300.0)
    restarts.ended(500.0, 300.0 + STEADY)
    assert restarts.wait(500.0) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 200)), max_size=30))
def test_it_never_waits_longer_than_the_limit(life: list[tuple[bool, float]]) -> None:
    restarts, now = Restarts(), 0.0
    for starts, lived in life:
        now += max(0.0, restarts.wait(now))
        if starts:
            restarts.started(now)
        now += lived
        restarts.ended(now)
        assert restarts.wait(now) <= LONGEST_WAIT + 1e-9  # a sum and a difference of floats
