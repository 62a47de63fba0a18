"""What the quota's machine makes of one answer after the other, and of calls that end."""

from __future__ import annotations

import pytest

from mcp_server_langgraph.resilience._machines.quota import NOTHING, Amounts, QuotaMachine, Window
from mcp_server_langgraph.resilience._machines.quota_headers import Reading


def tokens(amount: float) -> Amounts:
    return Amounts((0.0, amount, 0.0, 0.0))


def window_after(*answers: Reading, now: float = 0.0) -> Window:
    machine = QuotaMachine()
    for answer in answers:
        machine.heard({"tokens": answer}, now)
    return machine.windows["tokens"]


def test_amounts_are_added_and_taken_away_dimension_by_dimension() -> None:
    some, more = Amounts((1.0, 2.0, 3.0, 4.0)), Amounts((10.0, 20.0, 30.0, 40.0))
    assert some + more == Amounts((11.0, 22.0, 33.0, 44.0))
    assert more - some == Amounts((9.0, 18.0, 27.0, 36.0))


FIRST = Reading(100, 40, 30)  # 2 a second come in


@pytest.mark.parametrize(
    ("answers", "rate"),
    [
        ((FIRST,), 2.0),
        ((Reading(100, 99.5, 5),), 0.1),  # better than nothing
        ((Reading(100, 100, 30),), 100 / 60),
        ((Reading(100, 40, None),), 100 / 60),
        ((FIRST, Reading(100, 40, 60)), 1.0),
        ((FIRST, Reading(100, 99, 4)), 0.25),
        ((FIRST, Reading(100, 99.5, 5)), 2.0),  # rounded too much
        ((FIRST, Reading(100, 100, 30)), 2.0),
        ((FIRST, Reading(100, 40, None)), 2.0),
        ((FIRST, Reading(600, 40, None)), 10.0),
        ((FIRST, Reading(600, 599.5, 5)), 10.0),
        ((FIRST, Reading(600, 0, 60)), 10.0),
    ],
)
def test_the_rate_is_what_the_reset_tells_or_the_limit_each_minute(
    answers: tuple[Reading, ...], rate: float
) -> None:
    assert window_after(*answers).rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("answers", "limit"),
    [
        ((Reading(None, 30, 10),), 30),
        ((Reading(None, 30, 10), Reading(None, 20, 10)), 30),
        ((FIRST, Reading(None, 30, 10)), 100),
        ((FIRST, Reading(50, 30, 10)), 50),
    ],
)
def test_a_limit_that_is_not_said_is_the_one_before_or_what_remains(
    answers: tuple[Reading, ...], limit: float
) -> None:
    assert window_after(*answers).limit == limit


def test_the_reset_is_when_it_is_said_to_be_or_when_all_has_come_in() -> None:
    assert window_after(FIRST, now=10.0).reset_at == 40.0
    assert window_after(FIRST, Reading(100, 90, None), now=10.0).reset_at == 15.0
    assert window_after(FIRST, Reading(100, 100, None), now=10.0).reset_at == 10.0


def test_what_has_come_in_since_the_answer_is_there() -> None:
    window = window_after(FIRST, now=100.0)
    assert [window.left(now) for now in (100.0, 110.0, 130.0, 200.0)] == [40.0, 60.0, 100.0, 100.0]


def test_what_a_call_did_not_use_comes_back() -> None:
    machine = QuotaMachine()
    machine.heard({"tokens": Reading(100, 100, 0)}, 0.0)
    first, second = machine.take(tokens(30.0), 0.0), machine.take(tokens(40.0), 0.0)
    assert 0 < first < second
    machine.ended(first, tokens(10.0), 0.0)
    assert machine.windows["tokens"].left(0.0) == 50.0
    machine.give_back(tokens(40.0), second, 0.0, 0.0)
    assert machine.windows["tokens"].left(0.0) == 90.0


def test_a_call_ends_once() -> None:
    machine = QuotaMachine()
    machine.heard({"tokens": Reading(100, 100, 0)}, 0.0)
    order = machine.take(tokens(30.0), 0.0)
    for _ in range(2):
        machine.ended(order, tokens(20.0), 0.0)
    assert machine.windows["tokens"].left(0.0) == 80.0


def test_the_answer_to_the_call_itself_is_not_corrected() -> None:
    machine = QuotaMachine()
    machine.heard({"tokens": Reading(100, 100, 0)}, 0.0)
    order = machine.take(tokens(30.0), 0.0)
    machine.heard({"tokens": Reading(100, 85, 9)}, 0.0, order)
    machine.ended(order, tokens(15.0), 0.0)
    assert machine.windows["tokens"].left(0.0) == 85.0


def test_a_call_in_a_fixed_window_does_not_move_its_end() -> None:
    machine = QuotaMachine(gradual=False)
    machine.heard({"tokens": Reading(100, 40, 60)}, 0.0)
    assert machine.take(tokens(5.0), 10.0)
    assert machine.delay(tokens(70.0), 10.0, NOTHING) == 50.0
    assert machine.delay(tokens(70.0), 59.5, NOTHING) == 0.5


def test_what_is_missing_by_a_millionth_of_the_limit_delays_nobody() -> None:
    machine = QuotaMachine()
    machine.heard({"tokens": Reading(1e6, 5e5, 60)}, 0.0)
    assert machine.delay(tokens(5e5 + 0.9), 0.0, NOTHING) == 0.0
    assert machine.delay(tokens(5e5 + 1.1), 0.0, NOTHING) > 0.0
