"""The last decision on each question, for as long as it may stand in for a new one."""

from collections import OrderedDict

from mcp_server_langgraph.auth._openfga_questions import Question

__all__ = ["LastKnown"]


class LastKnown:
    """Decisions up to `max_age` seconds old (inclusive), of the `limit` questions decided last. `now`: seconds.

    `generation` tells what was asked before a `forget` from what was asked after: an answer that was under way
    meanwhile may be of the time before, and is not kept.
    """

    def __init__(self, *, max_age: float, limit: int = 10_000) -> None:
        self._max_age = max_age
        self._limit = limit
        self._decided: OrderedDict[Question, tuple[bool, float]] = OrderedDict()
        self.generation = 0

    def remember(self, question: Question, allowed: bool, now: float, generation: int) -> None:
        """Keep a decision that was asked for at `now`, in this `generation`."""
        if generation != self.generation:
            return
        self._decided[question] = (allowed, now)
        self._decided.move_to_end(question)
        if len(self._decided) > self._limit:
            self._decided.popitem(last=False)

    def recall(self, question: Question, now: float) -> tuple[bool, float] | None:
        """What was decided, and how many seconds ago; None if that is not known or too old."""
        allowed, at = self._decided.get(question, (False, now - self._max_age - 1))
        age = now - at
        return (allowed, age) if age <= self._max_age else None

    def forget(self) -> None:
        """Drop everything: one written tuple can change the answer to any question."""
        self._decided.clear()
        self.generation += 1
