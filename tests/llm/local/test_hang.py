"""Whether a silent child of the local model is hung: the decision."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.llm._local.hang import MIN_SILENCE, WORKING, Hang, Moment

IDLE = (Moment(10.0, 0.0), Moment(30.0, 0.0))
BUSY = (Moment(10.0, 0.0), Moment(30.0, 20.0 * WORKING))


def test_it_is_suspected_once_a_caller_has_waited_in_vain_while_it_did_nothing() -> None:
    hang = Hang(0.0)
    assert not hang.suspected
    hang.given_up(*IDLE)
    assert hang.suspected


def test_it_is_not_suspected_where_it_worked_however_slowly() -> None:
    hang = Hang(0.0)
    hang.given_up(*BUSY)
    assert not hang.suspected


def test_what_its_connections_cost_is_no_work() -> None:
    hang = Hang(0.0)
    hang.given_up(Moment(10.0, 3.0), Moment(30.0, 3.0 + 19.9 * WORKING))
    assert hang.suspected


@pytest.mark.parametrize(("waited", "suspected"), [(0.99 * MIN_SILENCE, False), (MIN_SILENCE, True)])
def test_a_caller_that_hardly_waited_says_nothing_of_it(waited: float, suspected: bool) -> None:
    hang = Hang(0.0)
    hang.given_up(Moment(0.0, 3.0), Moment(waited, 3.0))
    assert hang.suspected is suspected


def test_it_is_not_suspected_where_another_caller_was_given_something() -> None:
    hang = Hang(0.0)
    hang.answered(10.1)
    hang.given_up(*IDLE)
    assert not hang.suspected


def test_what_was_given_before_the_wait_does_not_count() -> None:
    hang = Hang(0.0)
    hang.answered(10.0)
    hang.given_up(*IDLE)
    assert hang.suspected


@pytest.mark.parametrize(("before", "after"), [(None, 5.0), (3.0, None), (None, None)])
def test_where_its_work_is_not_known_time_alone_tells(before: float | None, after: float | None) -> None:
    hang = Hang(0.0)
    hang.given_up(Moment(10.0, before), Moment(30.0, after))
    assert hang.suspected


def test_a_caller_that_left_while_it_worked_does_not_clear_it() -> None:
    hang = Hang(0.0)
    hang.given_up(*IDLE)
    hang.given_up(*BUSY)
    assert hang.suspected


def test_an_answer_to_anybody_clears_it() -> None:
    hang = Hang(0.0)
    hang.given_up(*IDLE)
    hang.answered(31.0)
    assert not hang.suspected
    assert hang.well_at == 31.0


def test_it_is_hung_where_it_neither_answers_the_question_nor_works() -> None:
    hang = Hang(1.0)
    hang.given_up(*IDLE)
    assert hang.unanswered(Moment(40.0, 3.0), Moment(45.0, 3.0))
    assert hang.suspected
    assert hang.well_at == 1.0


@pytest.mark.parametrize("worked", [WORKING, 1.0])
def test_it_is_not_hung_where_it_works_and_is_waited_for_again(worked: float) -> None:
    hang = Hang(0.0)
    hang.given_up(*IDLE)
    assert not hang.unanswered(Moment(40.0, 0.0), Moment(45.0, 5.0 * worked))
    assert not hang.suspected


def test_it_is_not_hung_where_it_answered_another_while_it_was_asked() -> None:
    hang = Hang(0.0)
    hang.given_up(*IDLE)
    hang.answered(41.0)
    assert not hang.unanswered(Moment(40.0, 3.0), Moment(45.0, 3.0))


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[str, float, float, int]]:
    """What happens to a child: what, after how long, in which it worked how much, and how many steps ago a wait that
    ends with it had begun.
    """
    step = st.tuples(
        st.sampled_from(["answered", "given_up", "unanswered", "nothing"]),
        st.sampled_from([0.0, 0.25, 1.0, 20.0]),
        st.sampled_from([0.0, 0.001, 0.004, 0.1, 5.0]),
        st.integers(0, 5),
    )
    return draw(st.lists(step, max_size=30))


@given(lives())
def test_it_is_hung_only_where_in_the_whole_time_of_a_wait_it_neither_gave_anything_nor_worked(
    life: list[tuple[str, float, float, int]],
) -> None:
    hang, suspected, now, worked = Hang(0.0), False, 0.0, 0.0
    moments, given_at = [Moment(0.0, 0.0)], [0.0]
    for what, later, more, ago in life:
        now, worked = now + later, worked + more
        since, until = moments[max(0, len(moments) - 1 - ago)], Moment(now, worked)
        moments.append(until)
        silent = not any(since.at < at for at in given_at)
        idle = silent and worked - (since.worked or 0.0) < WORKING * (now - since.at)
        if what == "answered":
            hang.answered(now)
            given_at.append(now)
            suspected = False
        elif what == "given_up":
            hang.given_up(since, until)
            suspected = suspected or (idle and now - since.at >= MIN_SILENCE)
        elif what == "unanswered":
            assert hang.unanswered(since, until) is idle
            suspected = idle
        assert hang.suspected is suspected
        assert hang.well_at == given_at[-1]
