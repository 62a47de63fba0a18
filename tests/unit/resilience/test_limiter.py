"""The limiter: what calls tell becomes windows, windows move the limit, and the places and the line follow."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import pytest

from mcp_server_langgraph.resilience._machines.admission_queue import End, ThreadEntry
from mcp_server_langgraph.resilience._machines.aimd import AIMD
from mcp_server_langgraph.resilience._machines.gradient import Gradient2
from mcp_server_langgraph.resilience._machines.limiter import Limiter, Options
from mcp_server_langgraph.resilience._machines.samples import Observed
from mcp_server_langgraph.resilience._machines.shares import Shares
from mcp_server_langgraph.resilience._machines.vegas import Vegas


@dataclass
class Told:
    """An algorithm that keeps what it is told, and moves to where it is put."""

    limit: float = 5.0
    bounds: list[tuple[int, int]] = field(default_factory=list)
    windows: list[Observed] = field(default_factory=list)
    error: Exception | None = None

    def update(self, observed: Observed) -> None:
        self.windows.append(observed)
        if self.error is not None:
            raise self.error

    def bound(self, least: int, most: int) -> None:
        self.bounds.append((least, most))


def options(algorithm: object = "aimd", initial: int = 5, max_queue: int | None = None) -> Options:
    return Options(algorithm, initial, 1, 10, max_queue, target=0.005, interval=0.1)  # type: ignore[arg-type]


def limiter_of(chosen: Options) -> Limiter:
    return Limiter(chosen, Shares(2, {}), lambda: 0.25)


def a_window(limiter: Limiter, now: float, round_trip: float = 0.5) -> None:
    """Ten answers, of which the last closes the window that began a second ago."""
    for at in [now - 1] + [now - 0.5] * 8 + [now]:
        limiter.answered(at - round_trip, at)


@pytest.mark.parametrize(("name", "kind"), [("aimd", AIMD), ("gradient2", Gradient2), ("vegas", Vegas)])
def test_an_algorithm_by_name_begins_where_it_is_told_within_its_bounds(name: str, kind: type) -> None:
    limiter = limiter_of(options(name))
    assert type(limiter.algorithm) is kind
    assert isinstance(limiter.algorithm, (AIMD, Gradient2, Vegas))
    assert (limiter.algorithm.limit, limiter.algorithm.least, limiter.algorithm.most) == (5, 1, 10)
    assert (limiter.places.limit, limiter.line.limit) == (5, 5)


def test_an_algorithm_of_ones_own_is_told_the_bounds_and_keeps_its_limit() -> None:
    algorithm = Told(limit=3.9)
    limiter = limiter_of(options(algorithm))
    assert limiter.algorithm is algorithm
    assert algorithm.bounds == [(1, 10)]
    assert (limiter.places.limit, limiter.line.limit) == (3, 3)


def test_a_limit_below_one_is_one() -> None:
    limiter = limiter_of(options(algorithm := Told(limit=0.5)))
    assert (limiter.places.limit, limiter.line.limit) == (1, 1)
    algorithm.limit = 7.0
    a_window(limiter, 10.0)
    algorithm.limit = 0.2
    a_window(limiter, 20.0)
    assert (limiter.places.limit, limiter.line.limit) == (1, 1)


def test_the_shares_are_those_of_the_line() -> None:
    limiter = Limiter(options(), shares := Shares(2, {1: 0.5}), lambda: 0.25)
    assert limiter.shares is limiter.line.shares is shares


def test_as_many_may_wait_as_there_are_places_unless_it_is_set() -> None:
    assert limiter_of(options()).max_queue == 5
    assert limiter_of(options(max_queue=0)).max_queue == 0


def test_it_is_full_when_no_place_is_free() -> None:
    limiter = limiter_of(options(initial=1))
    assert limiter.is_full() is False
    limiter.places.free.pop()
    assert limiter.is_full() is True


def test_a_window_of_answers_tells_their_mean_and_how_many_were_in_flight() -> None:
    limiter = limiter_of(options(algorithm := Told()))
    for _ in range(3):
        limiter.places.free.pop()
    a_window(limiter, 10.0)
    assert algorithm.windows == [Observed(pytest.approx(0.5), 3, dropped=False, chance=0.25)]  # type: ignore[arg-type]


def test_a_window_of_drops_tells_that_they_were_and_how_many_were_in_flight() -> None:
    limiter = limiter_of(options(algorithm := Told()))
    for _ in range(4):
        limiter.places.free.pop()
    for at in [9.0] * 9 + [10.0]:
        limiter.dropped(at)
    assert algorithm.windows == [Observed(None, 4, dropped=True, chance=0.25)]


@pytest.mark.parametrize("told", ["answered", "dropped"])
def test_places_that_are_owed_are_in_flight(told: str) -> None:
    limiter = limiter_of(options(algorithm := Told()))
    for _ in range(5):
        limiter.places.free.pop()
    limiter.places.resize(2)
    for at in [9.0] * 9 + [10.0]:
        limiter.answered(at - 0.5, at) if told == "answered" else limiter.dropped(at)
    assert [window.in_flight for window in algorithm.windows] == [5]


def test_places_and_line_follow_the_algorithm_and_who_waits_gets_the_new_ones() -> None:
    limiter = limiter_of(options(algorithm := Told(limit=1.0)))
    limiter.places.free.pop()
    late, waiting = ThreadEntry(0, End(9.9, "late")), ThreadEntry(0, End(100.0, "late"))
    for entry in (late, waiting):
        limiter.places.enqueue(entry, limiter.max_queue + 1, 9.0)
    algorithm.limit = 3.0
    a_window(limiter, 10.0)
    assert (limiter.places.limit, limiter.line.limit) == (3, 3)
    assert (late.why, waiting.why, waiting.event.is_set()) == ("late", None, True)


def test_the_line_is_stretched_to_round_trips_and_not_by_drops() -> None:
    limiter = limiter_of(options(Told()))
    assert limiter.longest_wait == 0.1
    a_window(limiter, 10.0, round_trip=2.0)
    assert [codel.interval for codel in limiter.codels] == [2.0, 2.0]
    assert limiter.longest_wait == 2.0
    for at in [19.0] * 9 + [20.0]:
        limiter.dropped(at)
    assert limiter.longest_wait == 2.0


def test_an_algorithm_that_raises_leaves_the_limit_and_hears_the_next_window(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = limiter_of(options(algorithm := Told(limit=3.0, error=ValueError("no idea"))))
    algorithm.limit = 9.0
    with caplog.at_level(logging.ERROR, "mcp_server_langgraph.resilience"):
        a_window(limiter, 10.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the algorithm of an adaptive limit raised; the limit stays 3"
    ]
    assert caplog.records[0].exc_info is not None
    assert limiter.places.limit == 3
    algorithm.error = None
    a_window(limiter, 20.0)
    assert (len(algorithm.windows), limiter.places.limit) == (2, 9)


def test_the_thread_that_finds_a_window_being_closed_goes_on() -> None:
    limiter = limiter_of(options(Told()))
    waits: list[bool] = []

    class Slow(Told):
        def update(self, observed: Observed) -> None:
            super().update(observed)
            other = threading.Thread(target=a_window, args=(limiter, 20.0), daemon=True)
            other.start()
            other.join(60)
            waits.append(other.is_alive())

    limiter.algorithm = algorithm = Slow()
    a_window(limiter, 10.0)
    assert waits == [False]
    assert len(algorithm.windows) == 1
    limiter.algorithm = Told()
    a_window(limiter, 30.0)
    assert len(limiter.algorithm.windows) == 1


def test_other_bounds_leave_what_was_learnt_and_the_limit_as_far_as_they_can() -> None:
    limiter = limiter_of(options())
    before = limiter.algorithm
    same_name = "".join(["ai", "md"])
    limiter.change(options(same_name)._replace(least=7, most=20, target=0.05, interval=3.0, initial=9), 1.0)
    assert limiter.algorithm is before
    assert isinstance(before, AIMD)
    assert (before.least, before.most, limiter.places.limit, limiter.line.limit) == (7, 20, 7, 7)
    assert [(codel.target, codel.interval) for codel in limiter.codels] == [(pytest.approx(0.15), 3.0)] * 2
    assert limiter.options.initial == 9


def test_an_algorithm_of_ones_own_that_stays_is_told_other_bounds() -> None:
    limiter = limiter_of(options(algorithm := Told()))
    limiter.change(options(algorithm)._replace(least=2), 1.0)
    assert limiter.algorithm is algorithm
    assert algorithm.bounds == [(1, 10), (2, 10)]


def test_another_algorithm_goes_on_from_the_present_limit() -> None:
    limiter = limiter_of(options("aimd"))
    limiter.algorithm.limit = 8.0
    limiter.change(options("vegas"), 1.0)
    assert isinstance(limiter.algorithm, Vegas)
    assert (limiter.algorithm.limit, limiter.places.limit) == (8, 8)


def test_who_waits_gets_the_places_that_other_settings_bring() -> None:
    limiter = limiter_of(options(initial=1))
    limiter.places.free.pop()
    late, waiting = ThreadEntry(0, End(1.9, "late")), ThreadEntry(0, End(100.0, "late"))
    for entry in (late, waiting):
        limiter.places.enqueue(entry, 2, 1.0)
    limiter.change(options()._replace(least=3), 2.0)
    assert (late.why, waiting.why, waiting.event.is_set()) == ("late", None, True)
