"""What proves an outage, and what does not."""

from dataclasses import replace

import pytest

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth._outage import OutageEvidence

QUESTION = Question("user:ann", "viewer", "document:1")


def test_failures_of_several_principals_and_a_failed_probe_are_an_outage() -> None:
    evidence = OutageEvidence(principals_needed=3)
    evidence.probe_failed(0.0)
    verdicts = []
    for name in ("ann", "bob", "cid"):
        evidence.failed(name, 1.0)
        verdicts.append(evidence.is_outage(1.0))
    assert verdicts == [False, False, True]


def test_one_principal_proves_nothing_however_often_it_fails() -> None:
    evidence = OutageEvidence(principals_needed=2)
    evidence.probe_failed(0.0)
    for _ in range(1000):
        evidence.failed("ann", 1.0)
    assert not evidence.is_outage(1.0)


def test_without_a_failed_probe_there_is_no_outage() -> None:
    evidence = OutageEvidence(principals_needed=2)
    for name in ("ann", "bob", "cid"):
        evidence.failed(name, 1.0)
    assert not evidence.is_outage(1.0)


@pytest.mark.parametrize(("now", "expected"), [(10.0, True), (10.1, False)])
def test_a_failed_probe_is_believed_for_a_while(now: float, expected: bool) -> None:
    evidence = OutageEvidence(principals_needed=1, probe_age=10.0, window=60.0)
    evidence.failed("ann", 0.0)
    evidence.probe_failed(0.0)
    assert evidence.is_outage(now) is expected


@pytest.mark.parametrize(("now", "expected"), [(60.0, True), (60.1, False)])
def test_old_failures_count_no_more(now: float, expected: bool) -> None:
    evidence = OutageEvidence(principals_needed=1, probe_age=10.0, window=60.0)
    evidence.failed("ann", 0.0)
    evidence.probe_failed(55.0)
    assert evidence.is_outage(now) is expected


def test_any_answer_takes_the_evidence_back() -> None:
    evidence = OutageEvidence(principals_needed=1)
    evidence.failed("ann", 0.0)
    evidence.probe_failed(0.0)
    evidence.answered()
    assert not evidence.is_outage(0.0)
    evidence.probe_failed(1.0)
    assert not evidence.is_outage(1.0)


def test_the_memory_of_principals_is_bounded() -> None:
    evidence = OutageEvidence(principals_needed=1)
    for number in range(5_000):
        evidence.failed(str(number), 0.0)
    assert len(evidence._failures) == 1_000


def test_a_needed_number_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="principals_needed"):
        OutageEvidence(principals_needed=0)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_decision_is_recalled_with_its_age_until_it_is_too_old(allowed: bool) -> None:
    known = LastKnown(max_age=300.0)
    known.remember(QUESTION, allowed, now=10.0, generation=0)
    assert known.recall(QUESTION, now=310.0) == (allowed, 300.0)
    assert known.recall(QUESTION, now=310.1) is None


def test_a_decision_answers_no_other_question() -> None:
    known = LastKnown(max_age=300.0)
    known.remember(QUESTION, True, now=0.0, generation=0)
    for change in ({"user": "user:bob"}, {"relation": "owner"}, {"object": "document:2"}):
        assert known.recall(replace(QUESTION, **change), now=0.0) is None


def test_the_oldest_decisions_make_room() -> None:
    known = LastKnown(max_age=300.0, limit=2)
    questions = [replace(QUESTION, object=f"document:{number}") for number in range(3)]
    for question in questions:
        known.remember(question, True, now=0.0, generation=0)
    assert [known.recall(question, now=0.0) is None for question in questions] == [True, False, False]


def test_forgotten_decisions_are_gone() -> None:
    known = LastKnown(max_age=300.0)
    known.remember(QUESTION, True, now=0.0, generation=0)
    known.forget()
    assert known.recall(QUESTION, now=0.0) is None


def test_an_answer_that_was_under_way_when_all_was_forgotten_is_not_kept() -> None:
    known = LastKnown(max_age=300.0)
    asked_in = known.generation
    known.forget()
    known.remember(QUESTION, True, now=0.0, generation=asked_in)
    assert known.recall(QUESTION, now=0.0) is None
    known.remember(QUESTION, True, now=0.0, generation=known.generation)
    assert known.recall(QUESTION, now=0.0) == (True, 0.0)


@pytest.mark.parametrize(
    "other",
    [
        Question.of("user:ann", "viewer", "document:1", [("user:ann", "viewer", "document:1")]),
        Question.of("user:ann", "viewer", "document:1", context={"hour": 9}),
    ],
)
def test_what_holds_for_one_request_makes_it_another_question(other: Question) -> None:
    known = LastKnown(max_age=300.0)
    known.remember(other, True, now=0.0, generation=0)
    assert known.recall(QUESTION, now=0.0) is None
