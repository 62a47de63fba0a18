"""The line before a gate that opens with time: who is let through when, and what becomes of those who give up."""

from __future__ import annotations

import math
from collections import OrderedDict

from mcp_server_langgraph.resilience._machines.line import (
    LEAST,
    Sleeper,
    Turn,
)
from tests.support.line import Noted, Shop, line_of, stands


def test_who_comes_when_nobody_waits_takes_it_at_once_with_the_gates_mark() -> None:
    line = line_of(Shop())
    assert line.join(Noted(), 1.0, 5.0, 0.0, 0) == Turn(5.0, 0.0, 1)
    assert line.join(Noted(), 1.0, 5.0, 0.0, 0) == Turn(5.0, 0.0, 2)
    assert not line.waiting


def test_who_would_wait_too_long_or_finds_the_line_full_learns_how_long_it_would_be() -> None:
    line = line_of(Shop())
    assert line.join(Noted(), 2.0, 0.5, 1.4, 9) == Turn(None, 1.5)
    assert line.join(Noted(), 2.0, 0.5, 1.5, 0) == Turn(None, 1.5)
    assert not line.waiting
    assert line.join(Noted(), 2.0, 0.5, 1.5, 1) is None
    assert line.join(Noted(), 1.0, 0.5, 100.0, 1) == Turn(None, 2.5)
    assert line.delay(1.0, 0.5) == 2.5


def test_nobody_overtakes_those_who_wait() -> None:
    line = line_of(Shop())
    first = stands(line, 5.0, 1.0)
    assert line.join(Noted(), 1.0, 2.0, 0.0, 9) == Turn(None, 4.0), "there is one now, but not for it"
    assert first.since is None


def test_whose_turn_it_is_are_let_through_by_whoever_comes_and_the_next_is_called() -> None:
    line = line_of(shop := Shop())
    sleepers = [stands(line, 1.0, 0.0) for _ in range(3)]
    line.advance(2.0)
    assert [(each.since, each.mark, each.woken) for each in sleepers] == [
        (2.0, 1, 1),
        (2.0, 2, 1),
        (None, 0, 1),
    ]
    assert list(line.waiting) == [sleepers[2]]
    assert line.delay(1.0, 2.0) == 2.0
    line.advance(2.5)
    assert sleepers[2].woken == 1, "nothing has changed"
    line.advance(2.5, changed=True)
    assert sleepers[2].woken == 2
    assert shop.returned == []


def test_the_head_learns_when_its_turn_is_and_the_others_sleep() -> None:
    line = line_of(Shop())
    first, second = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)
    assert [line.look(first, 0.25), line.look(second, 0.25)] == [0.75, math.inf]
    assert line.look(first, 1.0) == 0.0
    assert line.look(second, 1.25) == 0.75
    assert (first.since, second.since) == (1.0, None)


def test_a_timer_is_never_shorter_than_a_clock_can_tell() -> None:
    class Rounded(Shop):
        def delay(self, cost: float, now: float, ahead: float) -> float:
            return 1e-12

    line = line_of(Rounded())
    assert line.look(stands(line, 1.0, 0.0), 0.5) == LEAST


def test_who_leaves_takes_nothing_and_is_waited_for_no_more() -> None:
    line = line_of(shop := Shop())
    first, second = stands(line, 3.0, 0.0), stands(line, 1.0, 0.0)
    assert line.leave(first) is True
    assert line.leave(first) is False
    assert line.delay(1.0, 0.0) == 2.0
    line.advance(1.0)
    assert (second.since, shop.sold) == (1.0, 1.0)
    assert line.leave(second) is False


def test_nobody_in_line_is_exactly_nothing() -> None:
    line = line_of(Shop())
    sleepers = [stands(line, cost, 0.0) for cost in (0.1, 0.2, 0.3)]
    for sleeper in sleepers:
        line.leave(sleeper)
    assert line.delay(0.0, 0.0) == 0.0


def test_one_who_has_left_an_empty_line_is_not_at_its_head() -> None:
    line = line_of(Shop())
    sleeper = stands(line, 1.0, 0.0)
    line.leave(sleeper)
    assert line.look(sleeper, 0.0) == math.inf


def test_one_who_is_not_there_any_more_gives_it_back_and_holds_nobody_up() -> None:
    line = line_of(shop := Shop())
    gone, second = stands(line, 2.0, 0.0, there=False), stands(line, 2.0, 0.0)
    line.advance(2.0)
    assert shop.returned == [(2.0, 1, 2.0, 2.0)]
    assert (gone.woken, second.since) == (1, 2.0)


def test_one_who_cannot_be_called_loses_its_place_to_the_next() -> None:
    line = line_of(Shop())
    for _ in range(2):
        stands(line, 1.0, 0.0, there=False)
    last, behind = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)
    line.advance(0.5, changed=True)
    assert list(line.waiting) == [last, behind]
    assert (last.woken, behind.woken) == (1, 0)


def test_what_was_taken_for_one_that_the_collector_closed_meanwhile_goes_back() -> None:
    line = line_of(shop := Shop())
    closed, second = stands(line, 1.0, 0.0), stands(line, 1.0, 0.0)

    def close() -> None:
        shop.on_take = None
        assert line.leave(closed)

    shop.on_take = close
    line.advance(1.0)
    assert shop.returned == [(1.0, 1, 1.0, 1.0)]
    assert (closed.since, second.since, line.delay(1.0, 1.0)) == (None, 1.0, 1.0)


def test_one_that_the_collector_closes_while_it_is_called_loses_nobody_the_call() -> None:
    line = line_of(Shop())

    class Closed(Noted):
        def wake(self) -> bool:
            line.leave(self)
            return False

    closed = Closed()
    line.join(closed, 1.0, 0.0, 100.0, 9)
    second = stands(line, 1.0, 0.0)
    line.advance(0.5, changed=True)
    assert list(line.waiting) == [second]


def test_a_line_that_the_collector_empties_while_it_is_looked_at_is_empty() -> None:
    class Emptied(OrderedDict[Sleeper, float]):
        def __bool__(self) -> bool:
            return True

    line = line_of(shop := Shop())
    line.waiting = Emptied()
    line.advance(1.0, changed=True)
    assert shop.marks == 0
