"""Check as OpenFGA decides it: direct, computed, inherited, combined relations, user sets, wildcards."""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.openfga_rules import Tuple, types

__all__ = ["evaluate"]

_MAX_DEPTH = 25


def evaluate(model: Mapping[str, Any], tuples: Iterable[Tuple], question: Tuple) -> bool:
    """Whether the user has the relation to the object. Cycles and very deep chains end in False."""
    return _Evaluation(model, tuple(tuples)).holds(question, frozenset())


class _Evaluation:
    def __init__(self, model: Mapping[str, Any], tuples: tuple[Tuple, ...]) -> None:
        self._model = model
        self._tuples = tuples

    def holds(self, question: Tuple, seen: frozenset[Tuple]) -> bool:
        if question in seen or len(seen) > _MAX_DEPTH:
            return False
        if question.user == f"{question.object}#{question.relation}":
            return True
        kind = question.object.partition(":")[0]
        rewrite = types(self._model).get(kind, {}).get("relations", {}).get(question.relation)
        return rewrite is not None and self._rewrite(rewrite, question, seen | {question})

    def _rewrite(self, rewrite: Mapping[str, Any], question: Tuple, seen: frozenset[Tuple]) -> bool:
        if "this" in rewrite:
            return self._direct(question, seen)
        if "computedUserset" in rewrite:
            return self.holds(question._replace(relation=rewrite["computedUserset"]["relation"]), seen)
        if "tupleToUserset" in rewrite:
            return self._inherited(rewrite["tupleToUserset"], question, seen)
        if "union" in rewrite:
            return any(self._rewrite(child, question, seen) for child in rewrite["union"]["child"])
        if "intersection" in rewrite:
            return all(self._rewrite(child, question, seen) for child in rewrite["intersection"]["child"])
        difference = rewrite["difference"]
        return self._rewrite(difference["base"], question, seen) and not self._rewrite(
            difference["subtract"], question, seen
        )

    def _direct(self, question: Tuple, seen: frozenset[Tuple]) -> bool:
        everyone = question.user.partition(":")[0] + ":*"
        for user, relation, target in self._tuples:
            if (relation, target) != (question.relation, question.object):
                continue
            if user in (question.user, everyone):
                return True
            group, separator, member = user.partition("#")
            if separator and self.holds(Tuple(question.user, member, group), seen):
                return True
        return False

    def _inherited(self, rule: Mapping[str, Any], question: Tuple, seen: frozenset[Tuple]) -> bool:
        parents = [
            entry.user
            for entry in self._tuples
            if (entry.relation, entry.object) == (rule["tupleset"]["relation"], question.object)
        ]
        relation = rule["computedUserset"]["relation"]
        return any(self.holds(Tuple(question.user, relation, parent), seen) for parent in parents)
