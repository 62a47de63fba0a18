"""What OpenFGA demands of tuples and questions in view of the model; the messages are OpenFGA's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["InvalidTuple", "Tuple", "check_deleted", "check_question", "check_user", "check_written", "types"]


class Tuple(NamedTuple):
    """A relationship tuple."""

    user: str
    relation: str
    object: str

    def __str__(self) -> str:
        return f"{self.object}#{self.relation}@{self.user}"


class InvalidTuple(Exception):
    """A tuple or question that does not fit the model; the text is OpenFGA's message."""


# An object is `type:id`, a userset `type:id#relation`.
_OBJECT: Final = re.compile(r"[^:# ]+:[^:# ]+")
_USERSET: Final = re.compile(r"[^:# *]+:[^:# *]+#[^:# *]+")
_PLAIN: Final = re.compile(r"[^:# ]+")


def types(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model's type definitions by name."""
    return {definition["type"]: definition for definition in model["type_definitions"]}


def check_question(model: Mapping[str, Any], question: Tuple) -> None:
    """Raise InvalidTuple unless the model knows the types and relations that are named."""
    check_user(model, question.user)
    kind, _, name = question.object.partition(":")
    if not _OBJECT.fullmatch(question.object):
        raise InvalidTuple("invalid 'object' field format")
    if name == "*":
        raise InvalidTuple("the 'object' field cannot reference a typed wildcard")
    if kind not in types(model):
        raise InvalidTuple(f"type '{kind}' not found")
    if not question.relation:
        raise InvalidTuple("the 'relation' field is malformed")
    _check_relation(model, kind, question.relation)


def check_user(model: Mapping[str, Any], user: str) -> None:
    """Raise InvalidTuple unless it is an object, a userset or a wildcard of a type that the model knows."""
    is_object, is_userset = _OBJECT.fullmatch(user), _USERSET.fullmatch(user)
    if not is_object and not is_userset:
        if not _PLAIN.fullmatch(user):
            raise InvalidTuple("the 'user' field is malformed")
        raise InvalidTuple(
            "the 'user' field must be an object (e.g. document:1) or an 'object#relation' or a typed wildcard "
            "(e.g. group:*)"
        )
    kind = user.partition(":")[0]
    if kind not in types(model):
        raise InvalidTuple(f"type '{kind}' not found")
    if is_userset:
        _check_relation(model, kind, user.partition("#")[2])


def check_written(model: Mapping[str, Any], entry: Tuple, *, implicit: bool = False) -> None:
    """Raise InvalidTuple unless the tuple may be written; `implicit`: it may say what goes without saying."""
    try:
        check_question(model, entry)
        _check_tupleset(model, entry)
        _check_restrictions(model, entry)
        if not implicit and entry.user == f"{entry.object}#{entry.relation}":
            raise InvalidTuple("cannot write a tuple that is implicit")
    except InvalidTuple as error:
        raise InvalidTuple(f"Invalid tuple '{entry}'. Reason: {error}") from None


def check_deleted(entry: Tuple) -> None:
    """Raise InvalidTuple unless the tuple's user could be one."""
    if not any(shape.fullmatch(entry.user) for shape in (_OBJECT, _USERSET, _PLAIN)):
        raise InvalidTuple(f"Invalid tuple '{entry}'. Reason: the 'user' field is malformed")


def _check_relation(model: Mapping[str, Any], kind: str, relation: str) -> None:
    if relation not in types(model)[kind].get("relations", {}):
        raise InvalidTuple(f"relation '{kind}#{relation}' not found")


def _check_tupleset(model: Mapping[str, Any], entry: Tuple) -> None:
    """What others inherit from is one object, not a wildcard or a userset."""
    kind = entry.object.partition(":")[0]
    if entry.relation not in _tuplesets(types(model)[kind].get("relations", {}).values()):
        return
    if entry.user.endswith(":*"):
        raise InvalidTuple(
            f"unexpected wildcard relationship with tupleset relation '{kind}#{entry.relation}'"
        )
    if "#" in entry.user:
        raise InvalidTuple(f"unexpected user '{entry.user}' with tupleset relation '{kind}#{entry.relation}'")


def _tuplesets(rewrites: Any) -> Iterator[str]:
    for rewrite in rewrites:
        if "tupleToUserset" in rewrite:
            yield rewrite["tupleToUserset"]["tupleset"]["relation"]
        for operator in ("union", "intersection"):
            yield from _tuplesets(rewrite.get(operator, {}).get("child", []))
        yield from _tuplesets(rewrite.get("difference", {}).values())


def _check_restrictions(model: Mapping[str, Any], entry: Tuple) -> None:
    kind = entry.object.partition(":")[0]
    relation = types(model)[kind].get("metadata", {}).get("relations", {}).get(entry.relation, {})
    userset, _, member = entry.user.partition("#")
    user_type, _, name = userset.partition(":")
    for allowed in relation.get("directly_related_user_types", ()):
        shape = (allowed["type"], allowed.get("relation", ""), "wildcard" in allowed)
        if shape == (user_type, member, name == "*"):
            return
    refused = f"type '{user_type}'"
    if member:
        refused = f"'{user_type}#{member}'"
    elif name == "*":
        refused = f"the typed wildcard '{entry.user}'"
    raise InvalidTuple(f"{refused} is not an allowed type restriction for '{kind}#{entry.relation}'")
