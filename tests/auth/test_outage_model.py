"""What proves an outage, and which decisions may stand in, against models that forget nothing they heard."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_server_langgraph.auth._last_known import LastKnown
from mcp_server_langgraph.auth._openfga_questions import Question
from mcp_server_langgraph.auth._outage import OutageEvidence

PRINCIPALS = st.sampled_from(["ann", "bob", "cid", "dan"])
QUESTIONS = st.builds(
    Question,
    st.sampled_from(["user:ann", "user:bob"]),
    st.just("viewer"),
    st.sampled_from(["doc:1", "doc:2"]),
)
SECONDS = st.sampled_from([5.0, 10.0, 20.0])
NEEDED, WINDOW, PROBE_AGE = 2, 20.0, 10.0
MAX_AGE, LIMIT = 20.0, 3


class EvidenceMatchesItsModel(RuleBasedStateMachine):
    """The model keeps every event since the last answer, and counts anew at each question."""

    def __init__(self) -> None:
        super().__init__()
        self.evidence = OutageEvidence(principals_needed=NEEDED, window=WINDOW, probe_age=PROBE_AGE)
        self.now = 0.0
        self.failures: list[tuple[str, float]] = []
        self.probes: list[float] = []

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(principal=PRINCIPALS)
    def fail(self, principal: str) -> None:
        self.evidence.failed(principal, self.now)
        self.failures.append((principal, self.now))

    @rule()
    def probe_fails(self) -> None:
        self.evidence.probe_failed(self.now)
        self.probes.append(self.now)

    @rule()
    def answer(self) -> None:
        self.evidence.answered()
        self.failures, self.probes = [], []

    @invariant()
    def agrees(self) -> None:
        failed = {principal for principal, at in self.failures if self.now - at <= WINDOW}
        probed = any(self.now - at <= PROBE_AGE for at in self.probes)
        assert self.evidence.is_outage(self.now) == (probed and len(failed) >= NEEDED)


class LastKnownMatchesItsModel(RuleBasedStateMachine):
    """The model keeps every decision and its generation, and looks for the newest that may still be told.

    An answer asked for in an earlier generation may arrive at any time: `slow` keeps some of them for later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known = LastKnown(max_age=MAX_AGE, limit=LIMIT)
        self.now = 0.0
        self.generation = 0
        self.decided: list[tuple[Question, bool, float]] = []
        self.slow: list[tuple[Question, int]] = []

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(question=QUESTIONS)
    def ask(self, question: Question) -> None:
        assert self.known.generation == self.generation
        self.slow.append((question, self.known.generation))

    @precondition(lambda self: self.slow)
    @rule(data=st.data(), allowed=st.booleans())
    def answer(self, data: st.DataObject, allowed: bool) -> None:
        question, generation = self.slow.pop(data.draw(st.integers(0, len(self.slow) - 1)))
        self.known.remember(question, allowed, self.now, generation)
        if generation == self.generation:
            self.decided.append((question, allowed, self.now))

    @rule()
    def forget(self) -> None:
        self.known.forget()
        self.generation += 1
        self.decided = []

    @rule(question=QUESTIONS)
    def recall(self, question: Question) -> None:
        assert self.known.recall(question, self.now) == self._told(question)

    def _told(self, question: Question) -> tuple[bool, float] | None:
        newest_first = list(dict.fromkeys(asked for asked, _, _ in reversed(self.decided)))
        if question not in newest_first[:LIMIT]:
            return None
        allowed, at = next((said, at) for asked, said, at in reversed(self.decided) if asked == question)
        return (allowed, self.now - at) if self.now - at <= MAX_AGE else None


TestEvidence = EvidenceMatchesItsModel.TestCase
TestLastKnown = LastKnownMatchesItsModel.TestCase
