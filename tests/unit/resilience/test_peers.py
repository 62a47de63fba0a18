"""Who is alive: machine, and a naive model that keeps every look."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.peers import FORGOTTEN_AFTER, Peers


def test_a_report_that_was_there_before_us_is_believed_once_it_grows() -> None:
    peers = Peers(lease=3)
    assert peers.look({"a": 7}, 0.0) == {"a": False}
    assert peers.look({"a": 7}, 1.0) == {}
    assert peers.alive(1.0) == 0
    assert peers.look({"a": 8}, 2.0) == {"a": True}
    assert peers.alive(2.0) == 1


def test_it_is_believed_for_one_lease() -> None:
    peers = Peers(lease=3)
    peers.look({"a": 1}, 0.0)
    peers.look({"a": 2}, 1.0)
    assert [peers.alive(now) for now in (3.9, 4.0)] == [1, 0]


def test_after_a_gap_it_has_to_grow_twice() -> None:
    peers = Peers(lease=3)
    peers.look({"a": 1}, 0.0)
    peers.look({"a": 2}, 1.0)
    assert peers.look({"a": 50}, 4.1) == {"a": False}
    assert peers.look({"a": 51}, 7.1) == {"a": True}


def test_what_a_restored_or_late_place_brings_back_says_nothing() -> None:
    peers = Peers(lease=3)
    peers.look({"a": 5}, 0.0)
    assert peers.look({"a": 3}, 1.0) == {}
    assert peers.look({}, 1.5) == {}
    assert peers.look({"a": 6}, 2.0) == {"a": True}


def test_who_stopped_long_ago_is_forgotten_once() -> None:
    peers = Peers(lease=3)
    peers.look({"a": 1, "b": 1}, 0.0)
    peers.look({"a": 1, "b": 2}, 3 * FORGOTTEN_AFTER)
    assert peers.forget(3 * FORGOTTEN_AFTER) == []
    assert peers.forget(3 * FORGOTTEN_AFTER + 0.1) == ["a"]
    assert peers.forget(3 * FORGOTTEN_AFTER + 0.2) == []
    assert peers.look({"a": 2}, 3 * FORGOTTEN_AFTER + 0.3) == {"a": False}


LEASE = 4
looks = st.lists(
    st.tuples(st.integers(0, 3), st.dictionaries(st.sampled_from("abc"), st.integers(1, 6))), max_size=25
)


@given(looks)
def test_peers_are_those_of_the_naive_model(steps: list[tuple[int, dict[str, int]]]) -> None:
    peers, now = Peers(LEASE), 0
    history: list[tuple[int, dict[str, int]]] = []
    for wait, numbers in steps:
        now += wait
        expected = {
            name: _believed(history, name, now) for name in numbers if _grew(history, name, numbers[name])
        }
        assert peers.look(numbers, now) == expected
        history.append((now, numbers))
        alive = sum(_alive(history, name, now) for name in "abc")
        assert peers.alive(now) == alive


def _growths(history: list[tuple[int, dict[str, int]]], name: str) -> list[int]:
    """When its number was larger than at any look before."""
    times, largest = [], 0
    for when, numbers in history:
        if numbers.get(name, 0) > largest:
            largest = numbers[name]
            times.append(when)
    return times


def _grew(history: list[tuple[int, dict[str, int]]], name: str, number: int) -> bool:
    return number > max((numbers.get(name, 0) for _, numbers in history), default=0)


def _believed(history: list[tuple[int, dict[str, int]]], name: str, now: int) -> bool:
    times = _growths(history, name)
    return bool(times) and now - times[-1] <= LEASE


def _alive(history: list[tuple[int, dict[str, int]]], name: str, now: int) -> bool:
    times = _growths(history, name)
    proven = [after for before, after in itertools.pairwise(times) if after - before <= LEASE]
    return bool(proven) and now < proven[-1] + LEASE
