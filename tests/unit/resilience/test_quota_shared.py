"""What the quota's machine tells others who share it, and what it makes of their word."""

from __future__ import annotations

import math

import pytest

from mcp_server_langgraph.resilience._machines.quota import NOTHING, Amounts, QuotaMachine
from mcp_server_langgraph.resilience._machines.quota_headers import Reading


def tokens(amount: float) -> Amounts:
    return Amounts((0.0, amount, 0.0, 0.0))


def after_an_answer(*, gradual: bool) -> QuotaMachine:
    """40 of 100 are left, and the rest is there in 30 seconds."""
    machine = QuotaMachine(gradual=gradual)
    machine.heard({"tokens": Reading(100, 40, 30)}, 0.0)
    return machine


@pytest.mark.parametrize(
    ("gradual", "taken", "now", "reading"),
    [
        (True, 0.0, 0.0, Reading(100, 40, 30)),
        (True, 0.0, 10.0, Reading(100, 60, 20)),
        (True, 20.0, 0.0, Reading(100, 20, 40)),
        (True, 0.0, 40.0, Reading(100, 100, 0)),
        (True, 60.0, 0.0, Reading(100, 0, 50)),  # what is owed comes in, too, before it can be seen
        (False, 0.0, 0.0, Reading(100, 40, 30)),
        (False, 20.0, 10.0, Reading(100, 20, 20)),
        (False, 60.0, 10.0, Reading(100, 0, 20)),
        (False, 0.0, 29.5, Reading(100, 40, 0.5)),
        (False, 0.0, 40.0, Reading(100, 100, 0)),
    ],
)
def test_it_tells_what_an_answer_would_say_that_came_now(
    gradual: bool, taken: float, now: float, reading: Reading
) -> None:
    machine = after_an_answer(gradual=gradual)
    machine.told(tokens(taken), 0.0)
    assert machine.readings(now) == {"tokens": reading}


def test_it_tells_nothing_of_what_nobody_spoke_of() -> None:
    assert QuotaMachine().readings(0.0) == {}


def test_what_others_took_is_missing_and_what_they_gave_back_is_there_again() -> None:
    machine = after_an_answer(gradual=False)
    machine.told(tokens(40.0), 0.0)
    assert not machine.take(tokens(1.0), 0.0)
    machine.told(tokens(-1.0), 0.0)
    assert machine.take(tokens(1.0), 0.0)


def test_what_our_own_calls_took_is_told_apart_from_what_others_did() -> None:
    machine = after_an_answer(gradual=False)
    assert machine.taken == NOTHING
    first, second = machine.take(tokens(10.0), 0.0), machine.take(tokens(5.0), 0.0)
    machine.told(tokens(7.0), 0.0)
    assert machine.taken == tokens(15.0)
    machine.ended(first, tokens(12.0), 1.0)
    assert machine.taken == tokens(17.0)
    machine.ended(second, None, 1.0)  # nobody said: as was guessed
    assert machine.taken == tokens(17.0)


def test_a_call_that_was_not_made_took_nothing() -> None:
    machine = after_an_answer(gradual=False)
    machine.give_back(tokens(10.0), machine.take(tokens(10.0), 0.0), 0.0, 1.0)
    assert machine.taken == NOTHING


def test_a_call_that_was_refused_took_nothing() -> None:
    machine = after_an_answer(gradual=False)
    assert not machine.take(tokens(41.0), 0.0)
    assert machine.taken == NOTHING


def test_a_hold_is_our_own_unless_others_told_of_it() -> None:
    machine = QuotaMachine()
    assert machine.own_held_until == -math.inf
    machine.hold(10.0, 100.0, told=True)
    assert (machine.held_until, machine.own_held_until) == (110.0, -math.inf)
    machine.hold(20.0, 100.0)
    assert (machine.held_until, machine.own_held_until) == (120.0, 120.0)
    machine.hold(30.0, 100.0, told=True)
    assert (machine.held_until, machine.own_held_until) == (130.0, 120.0)


@pytest.mark.parametrize("seconds", [5.0, 10.0])
def test_a_hold_of_our_own_that_adds_nothing_to_what_others_told_is_not_told_again(seconds: float) -> None:
    machine = QuotaMachine()
    machine.hold(10.0, 100.0, told=True)
    machine.hold(seconds, 100.0)
    assert (machine.held_until, machine.own_held_until) == (110.0, -math.inf)
