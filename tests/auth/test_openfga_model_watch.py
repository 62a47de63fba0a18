"""The watch over OpenFGA's store and model, against a model that keeps all it was told and thinks it over anew."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, cast

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_langgraph.auth._openfga_api import Model, OpenFGAApi
from mcp_server_langgraph.auth._openfga_model import ModelWatch
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth.authorization import ModelMismatch

NEEDED = {"service#can_chat", "can_delete"}
HAS_ALL = {"service#can_chat", "document#can_delete", "document#viewer"}
QUESTIONS = [
    Question("user:ann", "viewer", "document:1"),
    Question("user:ann", "can_chat", "service:1"),
    Question("robot:r2", "viewer", "document:1"),
]
LOOK_TAKES = 0.1
A_MINUTE = 60.0
LONG_ENOUGH = 20.0
"""Seconds in which whoever looks again at the latest every five has looked again."""

Said = Model | str | int
"""What there is: a model, none ("empty"), a refusal's status, or nobody who answers ("down")."""


def model(number: int, relations: set[str]) -> Model:
    return Model(f"01{number}", frozenset({"user", "service", "document"}), frozenset(relations))


FITTING = [model(number, HAS_ALL) for number in range(1, 4)]
LACKING = [model(2, {"document#can_delete"}), model(3, {"service#can_chat"})]
STORES = st.sampled_from([*FITTING, *LACKING, "empty", "down", 404, 401, 403, 429, 503])


class Store:
    """Stands in for `OpenFGAApi`. What is read is of the moment at which the look began."""

    def __init__(self, there: Said) -> None:
        self.there = there
        self.saw_model: Any = None
        self.looks: list[tuple[float, Said]] = []
        """When each look began, and what it was told."""
        self.told: list[Said] = []
        """The answers that have arrived."""
        self._reading: Said = there

    async def probe(self) -> None:
        self._reading = self.there
        self.looks.append((now(), self._reading))
        await asyncio.sleep(LOOK_TAKES)
        if self._reading == "down":
            raise httpx2.ConnectError("refused")
        if isinstance(self._reading, int):
            self.told.append(self._reading)
            request = httpx2.Request("GET", "http://openfga/stores/1")
            raise httpx2.HTTPStatusError(
                "no", request=request, response=httpx2.Response(self._reading, request=request, json={})
            )

    async def model(self) -> Model | None:
        self.told.append(self._reading)
        return self._reading if isinstance(self._reading, Model) else None


def now() -> float:
    return asyncio.get_running_loop().time()


def problem(said: Said) -> str | None:
    """What an answer shows to be wrong; for those that are one."""
    if said == "empty":
        return "no authorization model"
    if isinstance(said, int):
        return f"status {said}"
    assert isinstance(said, Model)
    wanted = sorted(
        name for name in NEEDED if not any(f"#{one}".endswith(f"#{name}") for one in said.relations)
    )
    return f"{said.id} has no relation {', '.join(wanted)}" if wanted else None


def is_answer(said: Said) -> bool:
    return said not in ("down", 429, 503)


class By(NamedTuple):
    """This model decided."""

    id: str


@dataclass
class Naive:
    """All that was said, in its order: which models decided, and the answers to looks."""

    events: list[Said | By] = field(default_factory=list)
    asked: bool = False

    def answers(self) -> list[Said]:
        return [event for event in self.events if not isinstance(event, By) and is_answer(event)]

    def ids(self) -> list[str]:
        return [event.id for event in self.events if isinstance(event, By | Model)]

    def newest(self) -> str | None:
        return max(self.ids(), default=None)

    def problem(self) -> str | None:
        return problem(self.answers()[-1]) if self.answers() else None

    def changes(self) -> int:
        """How often what was decided before has lost its worth: by a newer model, or by a new problem."""
        ids = self.ids()
        newer = sum(at > 0 and one > max(ids[:at]) for at, one in enumerate(ids))
        problems = [None, *map(problem, self.answers())]
        worse = sum(after is not None and after != before for before, after in pairwise(problems))
        return newer + worse

    def facts(self, pinned: str | None) -> dict[str, Any]:
        answers = self.answers()
        expected: dict[str, Any] = {
            "model": self.newest() or pinned,
            "model_verified": bool(answers) and problem(answers[-1]) is None,
        }
        if self.ids() and self.ids()[0] != self.newest():
            expected["model_at_start"] = self.ids()[0]
        if self.problem() is not None:
            expected["unusable"] = not any(problem(one) is None for one in answers)
        return expected

    def knows(self, question: Question) -> bool:
        models = [event for event in self.events if isinstance(event, Model)]
        if not models:
            return True
        named = f"{question.object.partition(':')[0]}#{question.relation}"
        return question.user.partition(":")[0] in models[-1].types and named in models[-1].relations


class Watched:
    """A watch, its store, what the naive model knows, and when there was last a reason to look.

    ``due``: the moments of reasons that had it look at once, because it was at rest.
    """

    def __init__(self, there: Said, pinned: str | None, started: bool) -> None:
        self.store, self.naive, self.pinned = Store(there), Naive(), pinned
        self.changes = 0
        self.watch = ModelWatch(cast("OpenFGAApi", self.store), pinned, NEEDED, self._changed)
        assert self.store.saw_model == self.watch.saw
        self.reason = now()
        self.due: list[float] = []
        self.at_rest = not started
        if started:
            self.watch.start()

    def _changed(self) -> None:
        self.changes += 1

    def becomes(self, there: Said) -> None:
        self.store.there = there

    def decided_by(self, model_id: str) -> None:
        newest = self.naive.newest()
        self.watch.saw(model_id)
        self.naive.events.append(By(model_id))
        if newest is not None and model_id > newest:
            self._has_reason()

    def answered(self) -> None:
        self.watch.answered()
        self.naive.asked = True
        if self.store.looks and now() - self.store.looks[-1][0] > A_MINUTE:
            self._has_reason()

    def doubted(self) -> None:
        self.watch.doubt()
        self._has_reason()

    def turns_out_to_be(self, there: Said) -> None:
        self.becomes(there)
        self.doubted()

    def _has_reason(self) -> None:
        if self.at_rest and (not self.store.looks or now() - self.store.looks[-1][0] >= 1.0):
            self.due.append(now())
        self.reason, self.at_rest = now(), False

    async def wait(self, seconds: float) -> None:
        before = len(self.store.looks)
        await asyncio.sleep(seconds)
        self.naive.events += self.store.told
        self.store.told = []
        if seconds:
            assert {at for at, _ in self.store.looks}.issuperset(self.due)
            self.due = []
        looks = len(self.store.looks) - before
        # Whoever finds what is wrong looks less and less often, until it is mended.
        assert looks <= 10 + seconds / 2
        if self.at_rest:
            assert looks == 0
        elif seconds >= LONG_ENOUGH:
            self._has_looked()

    def _has_looked(self) -> None:
        """It has, since there was a reason; and goes on as long as it does not find what it should."""
        last, said = self.store.looks[-1]
        assert last >= self.reason
        self.at_rest = is_answer(said) and problem(said) is None
        if not self.at_rest:
            assert said == self.store.there
            assert now() - last < 6.5

    def check(self) -> None:
        watch, naive = self.watch, self.naive
        facts = watch.facts()
        told = facts.pop("problem", None)
        expected = naive.problem()
        assert (told is None) == (expected is None)
        assert expected is None or (expected in str(told))
        assert facts == naive.facts(self.pinned)
        assert self.changes == naive.changes()
        assert watch.reached == (naive.asked or bool(naive.answers()))
        assert [watch.knows(question) for question in QUESTIONS] == list(map(naive.knows, QUESTIONS))
        # Of a refused token each question hears anew: it may be good again.
        gone = expected is not None and naive.answers()[-1] in ("empty", 400, 404)
        with pytest.raises(ModelMismatch) if gone else nullcontext():
            watch.require()
        begun = [at for at, _ in self.store.looks]
        assert all(later - at >= 0.999 for at, later in pairwise(begun))


WAITS = st.tuples(st.just("wait"), st.sampled_from([0.0, LOOK_TAKES / 2, 1.0, LONG_ENOUGH, A_MINUTE + 1]))
STEPS = st.one_of(
    WAITS,
    WAITS,
    st.tuples(st.just("becomes"), STORES),
    st.tuples(st.just("turns_out_to_be"), STORES),
    st.tuples(st.just("decided_by"), st.sampled_from(["010", "011", "012", "013", "014"])),
    st.tuples(st.just("answered")),
    st.tuples(st.just("doubted")),
)


@settings(max_examples=100, deadline=None)
@given(STORES, st.sampled_from([None, "pinned"]), st.booleans(), st.lists(STEPS, min_size=10, max_size=30))
async def test_it_knows_what_it_was_told_and_looks_again_when_there_is_a_reason(
    there: Said, pinned: str | None, started: bool, steps: list[tuple[Any, ...]]
) -> None:
    watched = Watched(there, pinned, started)
    for name, *arguments in steps:
        outcome = getattr(watched, name)(*arguments)
        if outcome is not None:
            await outcome
        watched.check()
    for _ in range(2):
        await watched.wait(LONG_ENOUGH)
        watched.check()
    await watched.watch.stop()
