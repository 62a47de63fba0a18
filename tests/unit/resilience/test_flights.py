"""Single-flight's machine, against a naive model; and copies of errors for those who waited."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_server_langgraph.resilience import CircuitOpen
from mcp_server_langgraph.resilience._machines.flights import Flight, Flights, own_copy


class FlightsAgainstQueues(RuleBasedStateMachine):
    """The model is one plain list a question: its first asks, the others wait, each until its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.flights: Flights[int] = Flights()
        self.queues: dict[str, list[int]] = {}
        self.at: dict[int, Flight[int]] = {}
        self.until: dict[int, float] = {}
        self.people = 0

    @rule(key=st.sampled_from("abc"), until=st.sampled_from([1.0, 2.0, math.inf]))
    def board(self, key: str, until: float) -> None:
        self.people += 1
        self.until[self.people] = until
        flight = self.flights.board(key, self.people, until)
        self.queues.setdefault(key, []).append(self.people)
        self.at[self.people] = flight
        assert (flight.leader == self.people) == (self.queues[key][0] == self.people)

    @precondition(lambda self: self.at)
    @rule(data=st.data())
    def gave_up(self, data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(self.at)))
        flight = self.at.pop(who)
        key = str(flight.key)
        led = self.queues[key][0] == who
        self.queues[key].remove(who)
        told = self.flights.gave_up(flight, who)
        if led and self.queues[key]:
            latest = max(self.until[other] for other in self.queues[key])
            heir = next(other for other in self.queues[key] if self.until[other] == latest)
            self.queues[key].remove(heir)
            self.queues[key].insert(0, heir)
            assert told == heir
        else:
            assert told is None
        if not self.queues[key]:
            del self.queues[key]

    @precondition(lambda self: self.queues)
    @rule(data=st.data())
    def landed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.queues)))
        leader, *waiting = self.queues.pop(key)
        flight = self.at[leader]
        assert self.flights.landed(flight) == tuple(waiting)
        for who in (leader, *waiting):
            del self.at[who]
            assert self.flights.gave_up(flight, who) is None

    @invariant()
    def each_question_has_one_who_asks(self) -> None:
        assert len(self.flights) == len(self.queues)
        for key, queue in self.queues.items():
            flight = self.flights.under_way(key)
            assert flight is not None
            assert [flight.leader, *flight.waiting] == queue


FlightsAgainstQueues.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestFlightsAgainstQueues = FlightsAgainstQueues.TestCase


def test_a_flight_that_is_over_does_not_end_the_next_one() -> None:
    flights: Flights[str] = Flights()
    first = flights.board("key", "anne")
    flights.landed(first)
    second = flights.board("key", "bert")
    assert flights.gave_up(first, "anne") is None
    flights.landed(first)
    assert flights.under_way("key") is second


class Picky(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Wrapping(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"wrapped {text}")


def raised(exc: Exception) -> Exception:
    try:
        raise exc from KeyError("cause")
    except Exception as caught:
        caught.add_note("a note")
        return caught


@pytest.mark.parametrize(
    ("kind", "args"),
    [(ConnectionError, (111, "refused")), (CircuitOpen, ("s", 3.0)), (ValueError, ("text",))],
)
def test_each_gets_a_copy_with_everything_on_it(
    kind: Callable[..., Exception], args: tuple[Any, ...]
) -> None:
    original = raised(kind(*args))
    twin = own_copy(original)
    assert twin is not original
    assert (type(twin), twin.args, str(twin)) == (type(original), original.args, str(original))
    assert twin.__cause__ is original.__cause__
    assert twin.__notes__ == ["a note"]
    twin.add_note("another")
    assert original.__notes__ == ["a note"]
    assert traceback.extract_tb(twin.__traceback__) == traceback.extract_tb(original.__traceback__)


@pytest.mark.parametrize("exc", [Picky(code=3), Wrapping("text")])
def test_what_cannot_be_copied_faithfully_is_given_as_it_is(exc: Exception) -> None:
    assert own_copy(exc) is exc
