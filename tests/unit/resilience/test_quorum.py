"""When the word of others opens a circuit: machine, and a naive model that keeps all that was said."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_langgraph.resilience._machines.quorum import Quorum


def quorum(minimum: int = 2, share: float = 0.5) -> Quorum:
    return Quorum(minimum, share, lease=3.0)


def test_one_vote_is_none() -> None:
    circuit = quorum()
    circuit.votes("a", 1, 60.0, 0.0)
    assert circuit.left(0.0, healthy=False) == 0.0


def test_two_votes_hold_until_the_first_of_them_ends() -> None:
    circuit = quorum()
    circuit.votes("a", 1, 60.0, 0.0)
    circuit.votes("b", 1, 20.0, 0.0)
    assert circuit.left(0.0, healthy=False) == 20.0


def test_it_takes_more_than_half_of_those_who_have_an_opinion() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    circuit.finds_healthy("c", 0.0)
    assert circuit.left(0.0, healthy=False) == 60.0
    assert circuit.left(0.0, healthy=True) == 0.0
    circuit.votes("d", 1, 30.0, 0.0)
    assert circuit.left(0.0, healthy=True) == 30.0


def test_who_has_no_opinion_does_not_count() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    circuit.finds_healthy("c", 0.0)
    circuit.finds_healthy("d", 0.0)
    assert circuit.left(0.0, healthy=False) == 0.0
    circuit.has_no_opinion("d")
    assert circuit.left(0.0, healthy=False) == 60.0


def test_a_vote_lapses_with_its_lease() -> None:
    circuit = quorum()
    circuit.votes("a", 1, 60.0, 0.0)
    circuit.votes("b", 1, 60.0, 1.0)
    assert circuit.left(2.9, healthy=False) > 0
    assert circuit.left(3.0, healthy=False) == 0.0


def test_a_vote_that_ends_now_is_none() -> None:
    circuit = quorum()
    for name, left in (("a", 60.0), ("b", 60.0), ("c", 2.0)):
        circuit.votes(name, 1, left, 0.0)
    assert circuit.left(1.9, healthy=True) > 0
    assert circuit.left(2.0, healthy=True) == 58.0  # with it, it would take all three


def test_a_vote_told_again_ends_no_later() -> None:
    circuit = quorum()
    for late in (0.0, 0.5, 1.0):
        circuit.votes("a", 1, 10.0, late)
        circuit.votes("b", 1, 10.0, late)
    assert circuit.left(1.0, healthy=False) == 9.0
    circuit.votes("b", 1, 2.0, 1.0)
    assert circuit.left(1.0, healthy=False) == 2.0
    circuit.votes("b", 2, 10.0, 1.0)
    assert circuit.left(1.0, healthy=False) == 9.0


def test_what_our_own_probe_has_answered_does_not_open_again() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    circuit.answer()
    for name in "ab":
        circuit.votes(name, 1, 59.0, 1.0)
    assert circuit.left(1.0, healthy=False) == 0.0
    circuit.votes("a", 2, 60.0, 1.0)
    assert circuit.left(1.0, healthy=False) == 0.0
    circuit.votes("b", 2, 60.0, 1.0)
    assert circuit.left(1.0, healthy=False) == 60.0


def test_it_stays_answered_when_the_votes_come_back_after_a_partition() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 4, 60.0, 0.0)
    circuit.answer()
    assert circuit.left(10.0, healthy=False) == 0.0
    for name in "ab":
        circuit.votes(name, 4, 50.0, 10.0)
    assert circuit.left(10.0, healthy=False) == 0.0


def test_votes_whose_lease_is_over_are_answered_too() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    assert circuit.left(5.0, healthy=False) == 0.0
    circuit.answer()
    for name in "ab":
        circuit.votes(name, 1, 50.0, 10.0)
    assert circuit.left(10.0, healthy=False) == 0.0


def test_a_replica_that_is_gone_has_said_nothing() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    circuit.answer()
    circuit.gone("a")
    circuit.gone("nobody")
    circuit.votes("a", 1, 60.0, 0.0)
    circuit.votes("c", 1, 60.0, 0.0)
    assert circuit.left(0.0, healthy=False) == 60.0


def test_a_replica_that_is_gone_has_no_vote() -> None:
    circuit = quorum()
    for name in "ab":
        circuit.votes(name, 1, 60.0, 0.0)
    circuit.gone("a")
    assert circuit.left(0.0, healthy=False) == 0.0


LEASE = 4.0


@dataclass
class Said:
    """One thing that was said, and when."""

    replica: str
    generation: int | None  # None: no opinion; 0: healthy
    left: float
    at: float


class Naive:
    """Works everything out anew from all that was ever said."""

    def __init__(self, minimum: int, share: float) -> None:
        self.minimum, self.share = minimum, share
        self.said: list[Said] = []
        self.answers: list[int] = []  # how much had been said

    def newest(self, replica: str, upto: int | None = None) -> Said | None:
        return next((each for each in reversed(self.said[:upto]) if each.replica == replica), None)

    def answered(self, said: Said) -> bool:
        latest: int | None = None
        for upto in self.answers:
            then = self.newest(said.replica, upto)
            if then is not None and then.generation:
                latest = then.generation
        return latest == said.generation

    def end(self, said: Said) -> float:
        """The earliest end that was told of this opening, since it was told of without a break."""
        end = math.inf
        for each in reversed([each for each in self.said if each.replica == said.replica]):
            if each.generation != said.generation:
                break
            end = min(end, each.at + each.left)
        return end

    def left(self, now: float, healthy: bool) -> float:
        votes, well = [], int(healthy)
        for replica in "abcd":
            said = self.newest(replica)
            if said is None or said.generation is None or said.at + LEASE <= now:
                continue
            if said.generation == 0:
                well += 1
            elif not self.answered(said) and self.end(said) > now:
                votes.append(self.end(said) - now)
        enough = [count for count in range(1, len(votes) + 1) if count >= self.minimum]
        enough = [count for count in enough if count > self.share * (len(votes) + well)]
        return sorted(votes, reverse=True)[enough[0] - 1] if enough else 0.0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("votes"), st.sampled_from("abcd"), st.integers(1, 3), st.integers(1, 12)),
        st.tuples(st.sampled_from(["healthy", "none"]), st.sampled_from("abcd"), st.just(0), st.just(0)),
        st.tuples(st.just("answer"), st.just(""), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.just(0), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5, 0.75]), st.booleans())
def test_a_quorum_is_that_of_the_naive_model(
    program: list[tuple[str, str, int, int]], minimum: int, share: float, healthy: bool
) -> None:
    circuit, model, now = Quorum(minimum, share, LEASE), Naive(minimum, share), 0.0
    for what, replica, generation, number in program:
        if what == "votes":
            circuit.votes(replica, generation, number, now)
            model.said.append(Said(replica, generation, number, now))
        elif what == "healthy":
            circuit.finds_healthy(replica, now)
            model.said.append(Said(replica, 0, 0, now))
        elif what == "none":
            circuit.has_no_opinion(replica)
            model.said.append(Said(replica, None, 0, now))
        elif what == "answer":
            circuit.answer()
            model.answers.append(len(model.said))
        else:
            now += number
        assert circuit.left(now, healthy=healthy) == model.left(now, healthy)
