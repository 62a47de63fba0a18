"""The last decision on each question, for as long as it may stand in for a new one."""

from collections import OrderedDict

from mcp_server_langgraph.auth._openfga_api import RelationTuple

__all__ = ["LastKnown"]


class LastKnown:
    """Decisions up to `max_age` seconds old (inclusive), of the `limit` questions decided last. `now`: seconds."""

    def __init__(self, *, max_age: float, limit: int = 10_000) -> None:
        self._max_age = max_age
        self._limit = limit
        self._decided: OrderedDict[RelationTuple, tuple[bool, float]] = OrderedDict()

    def remember(self, question: RelationTuple, allowed: bool, now: float) -> None:
        self._decided[question] = (allowed, now)
        self._decided.move_to_end(question)
        if len(self._decided) > self._limit:
            self._decided.popitem(last=False)

    def recall(self, question: RelationTuple, now: float) -> tuple[bool, float] | None:
        """What was decided, and how many seconds ago; None if that is not known or too old."""
        allowed, at = self._decided.get(question, (False, now - self._max_age - 1))
        age = now - at
        return (allowed, age) if age <= self._max_age else None

    def forget(self) -> None:
        """Drop everything: one written tuple can change the answer to any question."""
        self._decided.clear()
