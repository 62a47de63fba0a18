"""Check as OpenFGA decides it: direct, computed, inherited, combined relations, user sets, wildcards."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["InvalidTuple", "Tuple", "evaluate", "validate"]

_MAX_DEPTH = 25


class Tuple(NamedTuple):
    """A relationship tuple."""

    user: str
    relation: str
    object: str


class InvalidTuple(Exception):
    """A tuple or question that does not fit the model; the text is OpenFGA's message."""


def validate(model: Mapping[str, Any], question: Tuple, *, as_write: bool = False) -> None:
    """Raise InvalidTuple unless the model knows types and relation (and, for a write, allows the user)."""
    if not 2 <= len(question.user) <= 512:
        raise InvalidTuple("invalid TupleKey.User: value length must be between 2 and 512 bytes, inclusive")
    if ":" not in question.user or question.user.startswith(":") or question.user.endswith(":"):
        raise InvalidTuple("the 'user' field is malformed")
    kind, _, name = question.object.partition(":")
    if not name or not kind or "#" in question.object:
        raise InvalidTuple("invalid 'object' field format")
    for type_name in (kind, question.user.partition(":")[0]):
        if type_name not in _types(model):
            raise InvalidTuple(f"type '{type_name}' not found")
    if question.relation not in _types(model)[kind].get("relations", {}):
        raise InvalidTuple(f"relation '{kind}#{question.relation}' not found")
    if as_write and not _may_be_assigned(model, question):
        raise InvalidTuple(
            f"Invalid tuple '{question.object}#{question.relation}@{question.user}'. "
            f"Reason: type '{question.user.partition(':')[0]}' is not an allowed type restriction for "
            f"'{kind}#{question.relation}'"
        )


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
        kind = question.object.partition(":")[0]
        rewrite = _types(self._model).get(kind, {}).get("relations", {}).get(question.relation)
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


def _types(model: Mapping[str, Any]) -> dict[str, Any]:
    return {definition["type"]: definition for definition in model["type_definitions"]}


def _may_be_assigned(model: Mapping[str, Any], entry: Tuple) -> bool:
    kind = _types(model)[entry.object.partition(":")[0]]
    relation = kind.get("metadata", {}).get("relations", {}).get(entry.relation, {})
    user_type, _, rest = entry.user.partition(":")
    name, _, member = rest.partition("#")
    return any(
        allowed["type"] == user_type
        and allowed.get("relation", "") == member
        and ("wildcard" in allowed) == (name == "*")
        for allowed in relation.get("directly_related_user_types", ())
    )
