"""How long a new answer is waited for where an old one could be given."""

import pytest

from mcp_server_langgraph.monitoring._patience import Patience
from tests.monitoring.fake_prometheus import Wall


@pytest.fixture
def clock() -> Wall:
    return Wall()


def test_a_query_that_was_never_answered_is_waited_for_as_long_as_it_takes() -> None:
    assert Patience().of_attempt("query", {"query": "up"}) is None
    assert Patience().of_call("query", {"query": "up"}) is None


@pytest.mark.parametrize(("took", "waits"), [(0.01, 0.4), (2.0, 6.0)])
def test_a_quick_query_is_given_the_least_and_a_slow_one_three_times_what_it_took(
    clock: Wall, took: float, waits: float
) -> None:
    patience = Patience(0.4, clock=clock)
    patience.answered("query", {"query": "up", "time": "1"}, took)
    assert patience.of_attempt("query", {"query": "up", "time": "2"}) == waits
    assert patience.of_attempt("query_range", {"query": "up"}) is None


def test_one_slow_answer_among_quick_ones_changes_nothing(clock: Wall) -> None:
    patience = Patience(0.4, clock=clock)
    waits = []
    for took in (2.0, 0.01, 2.0, 2.0):
        patience.answered("query", {"query": "up"}, took)
        waits.append(patience.of_attempt("query", {"query": "up"}))
    assert waits == [6.0, 0.4, 0.4, 6.0]


@pytest.mark.parametrize(("age", "waits"), [(0, 0.4), (24, 0.4), (60, 1.0), (600, 10.0)])
def test_the_older_the_last_answer_the_longer_a_new_one_is_waited_for(
    clock: Wall, age: float, waits: float
) -> None:
    patience = Patience(0.4, clock=clock)
    patience.answered("query", {"query": "up"}, 0.01)
    clock.now += age
    assert patience.of_attempt("query", {"query": "up"}) == pytest.approx(waits)


def test_an_attempt_ends_before_the_call_that_it_is_part_of(clock: Wall) -> None:
    patience = Patience(clock=clock)
    patience.answered("alerts", {}, 0.01)
    attempt, call = patience.of_attempt("alerts", {}), patience.of_call("alerts", {})
    assert attempt is not None
    assert call is not None
    assert attempt < call < 2 * attempt


def test_the_queries_answered_last_are_remembered(clock: Wall) -> None:
    patience = Patience(limit=2, clock=clock)
    for query in ("a", "b", "a", "c"):
        patience.answered("query", {"query": query}, 1.0)
    known = [patience.of_attempt("query", {"query": query}) is not None for query in "abc"]
    assert known == [True, False, True]
